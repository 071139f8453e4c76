//! Parses `secrets`, the secret environment variables of a task, and takes registry logins out of the variables.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::envs::{MAX_VARIABLES, parse_variable};
use crate::validation::{ErrorDetail, Fields, Validator, coerce};

/// What takes the place of a secret value wherever a request is shown, e.g., in errors and dry runs.
pub const REDACTED: &str = "<redacted>";

/// The variables of a registry login. Source: SkyPilot's documentation of private registries
/// (<https://docs.skypilot.co/en/latest/reference/kubernetes/kubernetes-getting-started.html>).
const REGISTRY_VARIABLES: [&str; 3] = [
    "SKYPILOT_DOCKER_SERVER",
    "SKYPILOT_DOCKER_USERNAME",
    "SKYPILOT_DOCKER_PASSWORD",
];

/// A text that is never shown: `Debug` hides it, and it serializes as [`REDACTED`], so that neither logs nor the hash of
/// a definition depend on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// A login to the registry of the task's image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistryLogin {
    /// The registry, e.g., `ghcr.io`.
    pub server: Secret,
    /// The user name.
    pub username: Secret,
    /// The password or token.
    pub password: Secret,
}

/// A request body without its secret values, which parse errors would repeat, and those values.
pub(super) struct Redacted<'a> {
    pub body: Cow<'a, Value>,
    /// The fields of `secrets`, and the registry login of `envs`.
    pub secrets: Map<String, Value>,
    /// The key of the body in which the registry login is.
    pub login_key: &'static str,
}

/// Replaces the values of `secrets`, whatever they are, and moves a registry login there from `envs`. Null stays,
/// because it means that the value is missing.
pub(super) fn redact(body: &Value) -> Redacted<'_> {
    let envs = body["envs"].as_object();
    let login: Vec<&str> = envs
        .into_iter()
        .flat_map(|envs| REGISTRY_VARIABLES.into_iter().filter(|name| envs.contains_key(*name)))
        .collect();
    if body["secrets"].is_null() && login.is_empty() {
        return Redacted {
            body: Cow::Borrowed(body),
            secrets: Map::new(),
            login_key: "secrets",
        };
    }
    let login_key = if login.is_empty() { "secrets" } else { "envs" };
    let mut redacted = body.clone();
    let mut secrets = body["secrets"].as_object().cloned().unwrap_or_default();
    for name in login {
        let moved = redacted["envs"]
            .as_object_mut()
            .and_then(|envs| envs.shift_remove(name));
        // A name that is in both is reported.
        if let (Some(value), false) = (moved, secrets.contains_key(name)) {
            secrets.insert(name.to_owned(), value);
        } else {
            redacted["envs"][name] = REDACTED.into();
        }
    }
    if body["secrets"].is_null() || body["secrets"].is_object() {
        redacted["secrets"] = Value::Object(secrets.clone());
    }
    if !redacted["secrets"].is_null() {
        hide(&mut redacted["secrets"]);
    }
    Redacted {
        body: Cow::Owned(redacted),
        secrets,
        login_key,
    }
}

/// Replaces what the errors repeat of secrets, also under misspelled keys and in unexpected places.
pub(super) fn hide_in_errors(errors: &mut [ErrorDetail]) {
    for error in errors {
        let is_secret = error.loc.iter().any(|item| is_secret_key(&item.to_string()));
        if is_secret {
            hide(&mut error.input);
        } else {
            hide_secrets(&mut error.input);
        }
    }
}

/// Hides the values of all keys that sound like secrets, at any depth.
fn hide_secrets(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if is_secret_key(key) {
                    hide(value);
                } else {
                    hide_secrets(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_secrets),
        // A body that is not JSON is one text.
        Value::String(text) if is_secret_key(text) || has_login(text) => hide(value),
        _ => {}
    }
}

/// Hides a value, but not the keys of a map, which are names of variables.
fn hide(value: &mut Value) {
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.values_mut().for_each(|value| {
            if !value.is_null() {
                *value = REDACTED.into();
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(hide),
        other => *other = REDACTED.into(),
    }
}

/// Whether a text has the address of a web server with a user name or a password in it.
fn has_login(text: &str) -> bool {
    let mut addresses = ["https://", "http://"]
        .into_iter()
        .flat_map(|scheme| text.split(scheme).skip(1));
    addresses.any(|rest| {
        let end = rest.find(|character: char| character == '/' || character.is_whitespace());
        rest[..end.unwrap_or(rest.len())].contains('@')
    })
}

/// The minimum similarity (Jaro-Winkler, 0 to 1) of a misspelled key to `secrets`.
const MISSPELLED_SIMILARITY: f64 = 0.85;

/// Whether the name of a key, or a text with keys in it, sounds like that of a secret, perhaps misspelled.
fn is_secret_key(key: &str) -> bool {
    let key_lowercase = key.to_ascii_lowercase();
    key_lowercase.contains("secret")
        || REGISTRY_VARIABLES.iter().any(|name| key.contains(name))
        || key.len() <= 2 * "secrets".len() && strsim::jaro_winkler(&key_lowercase, "secrets") >= MISSPELLED_SIMILARITY
}

/// Parses the redacted `value` of `secrets`, with the values from `secrets`.
pub(super) fn parse_secrets(
    value: &Value,
    secrets: &Map<String, Value>,
    validator: &mut Validator,
) -> Option<Vec<(String, Secret)>> {
    if let Value::Array(names) = value {
        // As written by hand, a list of no stored secrets.
        if names.is_empty() {
            return Some(Vec::new());
        }
        return validator.value_error(
            "this server stores no secrets; give each with `--secret NAME=VALUE`, or pass your own with `--secret NAME`",
            value,
        );
    }
    coerce::map(value, validator, MAX_VARIABLES, |name, redacted, validator| {
        let value = secrets.get(name).unwrap_or(&Value::Null);
        let (name, text) = parse_variable(name, value, redacted, validator)?;
        Some((name, Secret(text)))
    })
}

/// Reports secrets that are also in `envs`: one of the two values would win silently.
pub(super) fn check_names(envs: &[(String, String)], secrets: &[(String, Secret)], fields: &mut Fields<'_, '_>) {
    let envs: HashSet<&str> = envs.iter().map(|(name, _)| name.as_str()).collect();
    if let Some((name, _)) = secrets.iter().find(|(name, _)| envs.contains(name.as_str())) {
        fields.value_error("secrets", format!("`{name}` is also in `envs`; remove one of them"));
    }
}

/// The registry login among the secrets.
///
/// # Errors
/// A message if the login is incomplete.
pub(super) fn registry_login(secrets: &[(String, Secret)]) -> Result<Option<RegistryLogin>, String> {
    let value = |wanted: &str| {
        let found = secrets.iter().find(|(name, _)| name == wanted);
        found
            .map(|(_, secret)| secret.clone())
            .filter(|secret| !secret.0.is_empty())
    };
    match REGISTRY_VARIABLES.map(value) {
        [None, None, None] => Ok(None),
        [Some(server), Some(username), Some(password)] => Ok(Some(RegistryLogin {
            server,
            username,
            password,
        })),
        values => {
            let missing = REGISTRY_VARIABLES
                .iter()
                .zip(&values)
                .filter(|(_, value)| value.is_none());
            let missing: Vec<String> = missing.map(|(name, _)| format!("`{name}`")).collect();
            Err(format!(
                "the login to the registry is incomplete; add {}",
                missing.join(" and ")
            ))
        }
    }
}

/// The size of all secrets, including their names, in bytes.
pub(super) fn bytes(secrets: &[(String, Secret)]) -> usize {
    secrets.iter().map(|(name, secret)| name.len() + secret.0.len()).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{REDACTED, RegistryLogin};
    use crate::TaskDefinition;

    const CANARY: &str = "canary-4711";

    fn parse(body: &Value) -> Result<TaskDefinition, String> {
        TaskDefinition::parse(body, 10).map_err(|errors| {
            let text = serde_json::to_string(&errors).unwrap();
            assert!(!text.contains(CANARY), "{text}");
            text
        })
    }

    fn secrets(task: &TaskDefinition) -> Vec<(&str, &str)> {
        task.secrets
            .iter()
            .map(|(name, secret)| (name.as_str(), secret.reveal()))
            .collect()
    }

    #[test]
    fn secrets_are_variables_that_nothing_shows() {
        let body = json!({"run": "true", "secrets": {"TOKEN": CANARY, "N": 3, "EMPTY": ""}});
        let task = parse(&body).unwrap();
        assert_eq!(secrets(&task), [("TOKEN", CANARY), ("N", "3"), ("EMPTY", "")]);
        let shown = format!("{task:?} {}", serde_json::to_string(&task).unwrap());
        assert!(!shown.contains(CANARY) && shown.contains(REDACTED), "{shown}");
    }

    #[test]
    fn errors_do_not_repeat_secrets() {
        for secrets in [
            json!({"TOKEN": [CANARY]}),
            json!({"TOKEN": {"a": CANARY}}),
            json!({"not a name": CANARY}),
            json!({"TOKEN": format!("{CANARY}\0")}),
            json!(CANARY),
            json!([CANARY]),
            json!([[CANARY]]),
            json!({"A": CANARY}),
        ] {
            let body = json!({"run": "true", "envs": {"A": "1"}, "secrets": secrets});
            parse(&body).unwrap_err();
            // Without `run`, the error repeats the whole body.
            parse(&json!({"envs": {"A": "1"}, "secrets": secrets})).unwrap_err();
            // Misspelled, or in an unexpected place.
            parse(&json!({"run": "true", "secret": secrets})).unwrap_err();
            parse(&json!({"run": "true", "managed_secrets": secrets})).unwrap_err();
            parse(&json!({"task": {"secrets": secrets}})).unwrap_err();
            parse(&json!([{"secrets": secrets}])).unwrap_err();
            // A body without a JSON content type.
            parse(&json!(json!({"run": "true", "secrets": secrets}).to_string())).unwrap_err();
        }
        let login = json!({"SKYPILOT_DOCKER_PASSWORD": CANARY, "A": "1"});
        parse(&json!({"run": "true", "envs": login})).unwrap_err();
        parse(&json!({"envs": login})).unwrap_err();
        let errors = parse(&json!({"secrets": {"TOKEN": CANARY}})).unwrap_err();
        assert!(errors.contains("Field required"), "{errors}");
        let errors = parse(&json!({"run": "true", "secrets": {"TOKEN": null}})).unwrap_err();
        assert!(errors.contains("string"), "{errors}");
    }

    #[test]
    fn a_registry_login_is_complete_or_absent() {
        let login = |server: &str| {
            json!({
                "run": "true",
                "envs": {"SKYPILOT_DOCKER_SERVER": server, "SKYPILOT_DOCKER_USERNAME": "me"},
                "secrets": {"SKYPILOT_DOCKER_PASSWORD": CANARY},
            })
        };
        let task = parse(&login("ghcr.io")).unwrap();
        let expected = RegistryLogin {
            server: "ghcr.io".to_owned().into(),
            username: "me".to_owned().into(),
            password: CANARY.to_owned().into(),
        };
        assert_eq!(
            (task.registry_login, task.envs.len(), task.secrets.len()),
            (Some(expected), 0, 3)
        );
        let errors = parse(&login("")).unwrap_err();
        assert!(errors.contains("add `SKYPILOT_DOCKER_SERVER`"), "{errors}");
        let empty = json!({"run": "true", "envs": {"SKYPILOT_DOCKER_SERVER": "", "SKYPILOT_DOCKER_USERNAME": ""}});
        assert_eq!(parse(&empty).unwrap().registry_login, None);
    }

    #[test]
    fn nothing_else_changes_with_a_secret() {
        let body = json!({
            "run": "true",
            "envs": {"AWS_SECRET_ACCESS_KEY": "abc"},
            "volumes": {"/mnt/secrets": "v"},
            "resources": {"labels": {"secret-level": "high"}},
            "config": {"kubernetes": {"pod_config": {"spec": {"imagePullSecrets": [{"name": "x"}]}}}},
        });
        let without = parse(&body).unwrap();
        let mut with = body;
        with["secrets"] = json!({"TOKEN": CANARY});
        let with = parse(&with).unwrap();
        assert_eq!(
            TaskDefinition {
                secrets: Vec::new(),
                ..with
            },
            without
        );
    }

    proptest! {
        #[test]
        fn no_secret_is_in_what_is_shown(name in "[A-Z_]{1,8}", prefix in "[ -~]{0,8}", others in "[a-z]{0,4}") {
            let body = json!({
                "run": "true", "secrets": {name: format!("{prefix}{CANARY}")}, "surely_unknown": others,
            });
            prop_assert!(parse(&body).is_err());
        }
    }
}
