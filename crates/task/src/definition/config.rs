//! Parses SkyPilot's `config`.
//!
//! Source: <https://docs.skypilot.co/en/latest/reference/config.html#kubernetes>.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::duration::MAX_DURATION_SECONDS;
use super::hooks::{Hook, parse_hooks};
use super::keys::{CONFIG, KUBERNETES, KUEUE};
use super::metadata::Metadata;
use crate::validation::{Fields, Validator, coerce};

/// The maximum provisioning timeout, in seconds.
pub(super) const MAX_PROVISION_TIMEOUT_SECONDS: i64 = MAX_DURATION_SECONDS as i64;

/// The maximum length of a queue name, which becomes a label value.
pub(super) const MAX_QUEUE_LENGTH: usize = 63;

/// The pattern of a queue name, for the OpenAPI document; `parse_queue_name` implements the rule.
pub(super) const QUEUE_PATTERN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// The maximum length of the name of a service account: it is a DNS subdomain.
const MAX_ACCOUNT_BYTES: usize = 253;

/// The Kubernetes settings of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct KubernetesConfig {
    /// The provisioning timeout; if absent, the server's default applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provision_timeout: Option<ProvisionTimeout>,
    /// The Kueue queue (`LocalQueue`) that the task is submitted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_queue_name: Option<String>,
    /// Labels and annotations of the pods.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// The service account of the pods, in SkyPilot `remote_identity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Fields to merge into the pods, as in a Kubernetes manifest. Only their size is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_config: Option<Value>,
}

/// How long to wait until all nodes of a task are scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ProvisionTimeout {
    /// Wait indefinitely.
    Never,
    /// Fail the task after this time.
    After(Duration),
}

impl ProvisionTimeout {
    /// The timeout, or `None` to wait indefinitely.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(duration) => Some(duration),
        }
    }
}

/// Parses `config`.
pub(super) fn parse_config(value: &Value, validator: &mut Validator) -> Option<(KubernetesConfig, Vec<Hook>)> {
    let mut fields = Fields::from_value(value, validator)?;
    let kubernetes = fields.optional("kubernetes", parse_kubernetes);
    let hooks = fields.optional("hooks", parse_hooks);
    CONFIG.finish(fields);
    Some((kubernetes.unwrap_or_default(), hooks.unwrap_or_default()))
}

fn parse_kubernetes(value: &Value, validator: &mut Validator) -> Option<KubernetesConfig> {
    let mut fields = Fields::from_value(value, validator)?;
    let provision_timeout = fields.optional("provision_timeout", parse_provision_timeout);
    let local_queue_name = fields.optional("kueue", parse_kueue);
    let metadata = fields.optional("custom_metadata", Metadata::from_value);
    let identity = fields.optional("remote_identity", parse_remote_identity);
    if identity == Some(RemoteIdentity::OfServer) {
        fields.warn("`config.kubernetes.remote_identity` has no effect: the server's `--service-account` applies");
    }
    let pod_config = fields.optional("pod_config", |value, validator| match value {
        Value::Object(fields) => Some((!fields.is_empty()).then(|| value.clone())),
        _ => validator.push_error("dict_type", "Input should be a valid dictionary", value),
    });
    KUBERNETES.finish(fields);
    Some(KubernetesConfig {
        provision_timeout,
        local_queue_name,
        metadata: metadata.unwrap_or_default(),
        service_account: match identity {
            Some(RemoteIdentity::ServiceAccount(name)) => Some(name),
            Some(RemoteIdentity::OfServer) | None => None,
        },
        pod_config: pod_config.flatten(),
    })
}

/// Whose identity the pods have in the cluster.
#[derive(Debug, PartialEq, Eq)]
enum RemoteIdentity {
    /// Whatever the server gives them.
    OfServer,
    /// That of a service account.
    ServiceAccount(String),
}

/// Parses one of SkyPilot's words, or the name of a service account, which is a DNS subdomain.
fn parse_remote_identity(value: &Value, validator: &mut Validator) -> Option<RemoteIdentity> {
    const WORDS: [&str; 3] = ["SERVICE_ACCOUNT", "LOCAL_CREDENTIALS", "NO_UPLOAD"];
    let name = coerce::string(value, validator)?;
    if WORDS.contains(&name.as_str()) {
        return Some(RemoteIdentity::OfServer);
    }
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if (1..=MAX_ACCOUNT_BYTES).contains(&name.len()) && name.bytes().all(is_part) && !name.starts_with(['-', '.']) {
        return Some(RemoteIdentity::ServiceAccount(name));
    }
    validator.value_error(
        format!(
            "invalid service account `{name}`; expected its name, or one of {}",
            WORDS.join(", ")
        ),
        value,
    )
}

/// Parses seconds. To wait indefinitely, SkyPilot uses -1, and formerly used 0; both are accepted.
fn parse_provision_timeout(value: &Value, validator: &mut Validator) -> Option<ProvisionTimeout> {
    let seconds = coerce::integer(value, validator)?;
    match u64::try_from(seconds) {
        Ok(0) => Some(ProvisionTimeout::Never),
        Ok(some) if seconds <= MAX_PROVISION_TIMEOUT_SECONDS => {
            Some(ProvisionTimeout::After(Duration::from_secs(some)))
        }
        Err(_) if seconds == -1 => Some(ProvisionTimeout::Never),
        _ => validator.value_error(
            format!("must be from 1 to {MAX_PROVISION_TIMEOUT_SECONDS} seconds, or -1 to wait indefinitely"),
            value,
        ),
    }
}

fn parse_kueue(value: &Value, validator: &mut Validator) -> Option<String> {
    let mut fields = Fields::from_value(value, validator)?;
    let queue = fields.optional("local_queue_name", parse_queue_name);
    KUEUE.finish(fields);
    queue
}

/// Parses the name of a `LocalQueue`. It must be an RFC 1123 label, because it becomes a label value.
fn parse_queue_name(value: &Value, validator: &mut Validator) -> Option<String> {
    let name = coerce::string(value, validator)?;
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_valid = name.len() <= MAX_QUEUE_LENGTH
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && bytes.iter().all(|byte| is_end(byte) || *byte == b'-');
    if is_valid {
        return Some(name);
    }
    validator.value_error(
        format!(
            "a queue name must be 1 to {MAX_QUEUE_LENGTH} lowercase letters, digits, or `-`, and start and end with a \
             letter or digit"
        ),
        value,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::super::TaskDefinition;
    use super::ProvisionTimeout;

    fn parse(kubernetes: &Value) -> Result<TaskDefinition, String> {
        let body = json!({"run": "true", "config": {"kubernetes": kubernetes}});
        TaskDefinition::parse(&body, 1).map_err(|errors| errors[0].msg.clone())
    }

    #[test]
    fn a_provision_timeout_is_in_seconds_and_minus_one_is_for_ever() {
        let parsed = |seconds: Value| parse(&json!({"provision_timeout": seconds})).map(|task| task.kubernetes);
        let minute = Some(ProvisionTimeout::After(Duration::from_secs(60)));
        assert_eq!(parsed(json!(60)).unwrap().provision_timeout, minute);
        assert_eq!(parsed(json!("60")).unwrap().provision_timeout, minute);
        for never in [0, -1] {
            assert_eq!(
                parsed(json!(never)).unwrap().provision_timeout,
                Some(ProvisionTimeout::Never)
            );
        }
        assert_eq!(parsed(Value::Null).unwrap().provision_timeout, None);
        assert!(parsed(json!(-2)).is_err());
        assert!(parsed(json!(1_000_000_000)).is_err());
    }

    #[test]
    fn a_queue_is_named_as_kubernetes_names_things() {
        let parsed = |name: &str| parse(&json!({"kueue": {"local_queue_name": name}}));
        assert_eq!(
            parsed("team-a").unwrap().kubernetes.local_queue_name.as_deref(),
            Some("team-a")
        );
        for wrong in ["", "-a", "a-", "A", "a b", &"a".repeat(64)] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_remote_identity_is_a_service_account_or_that_of_the_server() {
        let parsed = |identity: &str| parse(&json!({"remote_identity": identity}));
        let task = parsed("my-account").unwrap();
        assert_eq!(task.kubernetes.service_account.as_deref(), Some("my-account"));
        let task = parsed("LOCAL_CREDENTIALS").unwrap();
        assert_eq!((task.kubernetes.service_account, task.warnings.len()), (None, 1));
        for wrong in ["", "My_Account", "-a", &"a".repeat(254)] {
            assert!(
                parsed(wrong).unwrap_err().contains("invalid service account"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_skypilot_has_beside_is_named() {
        let message = parse(&json!({"dws": {}})).unwrap_err();
        assert!(message.contains("use `kueue` for a queue"), "{message}");
        let message = parse(&json!({"provision_timeouts": 1})).unwrap_err();
        assert!(message.contains("did you mean `provision_timeout`?"), "{message}");
    }
}
