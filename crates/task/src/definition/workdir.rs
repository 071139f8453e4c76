//! Parses `workdir`: where `setup` and `run` start.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::git::{GitRef, GitUrl};
use super::scripts::MAX_PATH_BYTES;
use super::secrets::REDACTED;
use crate::validation::{Fields, Validator, coerce};

/// Where `setup` and `run` start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Workdir {
    /// A directory of the container.
    Directory(String),
    /// A clone of a git repository.
    Repository(Repository),
}

/// A git repository that each node clones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repository {
    /// Its address.
    pub url: GitUrl,
    /// The branch, tag, or commit; its default branch if absent.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<GitRef>,
}

impl Workdir {
    /// The repository, if it is one.
    #[must_use]
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Directory(_) => None,
            Self::Repository(repository) => Some(repository),
        }
    }
}

impl fmt::Display for Workdir {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Directory(path) => path,
            Self::Repository(repository) => repository.url.as_str(),
        })
    }
}

pub(super) fn parse_workdir(value: &Value, validator: &mut Validator) -> Option<Workdir> {
    if value.is_object() {
        return parse_repository(value, validator).map(Workdir::Repository);
    }
    let path = coerce::string(value, validator)?;
    if path.is_empty() || path.len() > MAX_PATH_BYTES || path.chars().any(char::is_control) {
        return validator.value_error(
            format!("a directory must be 1 to {MAX_PATH_BYTES} bytes long, without control characters"),
            value,
        );
    }
    Some(Workdir::Directory(path))
}

fn parse_repository(value: &Value, validator: &mut Validator) -> Option<Repository> {
    let mut fields = Fields::from_value(value, validator)?;
    let url = fields.required("url", |value, validator| {
        let text = coerce::string(value, validator)?;
        // What is refused may be an address with a password.
        GitUrl::parse(&text).map_or_else(|reason| validator.value_error(reason, &json!(REDACTED)), Some)
    });
    let git_ref = fields.optional("ref", |value, validator| {
        let text = coerce::string(value, validator)?;
        GitRef::parse(&text).map_or_else(|reason| validator.value_error(reason, value), Some)
    });
    fields.deny_unknown_fields(|_| None);
    Some(Repository { url: url?, git_ref })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::TaskDefinition;

    fn parse(workdir: &Value) -> Result<Value, String> {
        let body = json!({"run": "true", "envs": {"ORG": "org", "V": "v1"}, "workdir": workdir});
        let parsed = TaskDefinition::parse(&body, 1);
        parsed
            .map(|task| serde_json::to_value(task.workdir).unwrap())
            .map_err(|errors| serde_json::to_string(&errors).unwrap())
    }

    #[test]
    fn a_workdir_is_a_directory_or_a_repository_with_variables_filled_in() {
        for (written, parsed) in [
            (json!("/code"), json!("/code")),
            (json!("$ORG/code"), json!("$ORG/code")),
            (json!({"url": "https://x/$ORG/r"}), json!({"url": "https://x/org/r"})),
            (
                json!({"url": "git@x:${ORG}/r", "ref": "$V"}),
                json!({"url": "git@x:org/r", "ref": "v1"}),
            ),
            (
                json!({"url": "https://x/r", "ref": null}),
                json!({"url": "https://x/r"}),
            ),
        ] {
            assert_eq!(parse(&written), Ok(parsed), "{written}");
        }
    }

    #[test]
    fn a_mistake_is_told_where_it_is_and_never_with_a_password() {
        for (written, place) in [
            (json!({"ref": "main"}), r#""workdir","url"]"#),
            (json!({"url": "file:///x"}), r#""workdir","url"]"#),
            (json!({"url": "https://me:canary@x/r"}), r#""workdir","url"]"#),
            (json!({"url": "https://canary@x/r", "ref": 1}), r#""workdir","ref"]"#),
            (json!({"url": "https://x/r", "branch": "x"}), r#""workdir","branch"]"#),
            (json!({"url": "https://canary@x/r", "ref": "-x"}), r#""workdir","ref"]"#),
        ] {
            let error = parse(&written).unwrap_err();
            assert!(error.contains(place) && !error.contains("canary"), "{error}");
        }
        let body = json!({"workdir": {"url": "https://canary@x/r"}});
        let errors = TaskDefinition::parse(&body, 1).unwrap_err();
        let errors = serde_json::to_string(&errors).unwrap();
        assert!(errors.contains("missing") && !errors.contains("canary"), "{errors}");
    }

    #[test]
    fn a_task_has_one_working_folder() {
        let files = json!({".": "0".repeat(64)});
        let body = json!({"run": "true", "workdir": {"url": "https://x/r"}, "files": files});
        let errors = TaskDefinition::parse(&body, 1).unwrap_err();
        assert!(errors[0].msg.contains("`https://x/r`"), "{}", errors[0].msg);
    }
}
