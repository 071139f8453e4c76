//! The repository of a task: the flags for it, and the caller's credentials for a private one.

use std::path::Path;

use serde_json::{Value, json};
use task::definition::{GitUrl, SSH_KEY_VARIABLE, TOKEN_VARIABLE, fill_text};

use crate::error::{Error, FileAction, Result};
use crate::report::TaskSource;

/// As in SkyPilot, the path of a private key; what a task gets is the key.
const SSH_KEY_PATH_VARIABLE: &str = "GIT_SSH_KEY_PATH";

/// The largest private key. The longest RSA keys have 13 KB.
const MAX_KEY_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct GitFlags {
    /// Git repository to clone on the nodes, in which the task starts. Replaces `workdir` of the task file.
    #[arg(long, value_name = "URL", conflicts_with_all = ["workdir", "no_workdir"])]
    pub git_url: Option<String>,

    /// Branch, tag, or commit of the repository.
    #[arg(long, value_name = "REF", conflicts_with_all = ["workdir", "no_workdir"])]
    pub git_ref: Option<String>,
}

impl GitFlags {
    /// Applies the flags. As in SkyPilot, each replaces its part of the repository in the file.
    pub(super) fn apply(&self, body: &mut Value, source: &mut TaskSource) -> Result<()> {
        if self.git_url.is_some() && !body["workdir"].is_object() {
            body["workdir"] = json!({});
        }
        for (key, flag, value) in [("url", "--git-url", &self.git_url), ("ref", "--git-ref", &self.git_ref)] {
            let Some(value) = value else { continue };
            if !body["workdir"].is_object() {
                return Err(Error::Usage(
                    "`--git-ref` needs a repository; add `--git-url URL`, or `workdir: {url: URL}` to the task file"
                        .to_owned(),
                ));
            }
            body["workdir"][key] = json!(value);
            source.record_flag(&["workdir", key], flag);
        }
        Ok(())
    }
}

/// A credential of the caller that a task gets as a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credential {
    /// The name of the secret.
    pub name: &'static str,
    pub value: String,
    /// The variable of the caller that has it.
    pub variable: &'static str,
}

/// The credential of the caller for the repository of a task that has none of its own.
pub(super) fn credential(body: &Value, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Credential>> {
    let url = body["workdir"]["url"].as_str().map(|url| fill_text(url, body));
    // Another address is reported when the task is validated.
    let Some(url) = url.and_then(|url| GitUrl::parse(&url).ok()) else {
        return Ok(None);
    };
    let is_set = |name: &str| ["envs", "secrets"].iter().any(|key| body[key].get(name).is_some());
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    Ok(match url.credential_variable() {
        Some(name) if is_set(name) => None,
        Some(TOKEN_VARIABLE) => set(TOKEN_VARIABLE).map(|value| Credential {
            name: TOKEN_VARIABLE,
            value,
            variable: TOKEN_VARIABLE,
        }),
        Some(_) => match set(SSH_KEY_PATH_VARIABLE) {
            Some(path) => Some(Credential {
                name: SSH_KEY_VARIABLE,
                value: read_key(Path::new(&path))?,
                variable: SSH_KEY_PATH_VARIABLE,
            }),
            None => None,
        },
        None => None,
    })
}

fn read_key(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(Error::file(FileAction::Read, path))?;
    if text.len() > MAX_KEY_BYTES || !text.contains("PRIVATE KEY-----") {
        return Err(Error::Usage(format!(
            "`{SSH_KEY_PATH_VARIABLE}`: `{}` is not a private key for SSH",
            path.display()
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{GitFlags, credential};
    use crate::report::TaskSource;

    fn applied(mut body: Value, url: Option<&str>, git_ref: Option<&str>) -> Result<Value, String> {
        let flags = GitFlags {
            git_url: url.map(str::to_owned),
            git_ref: git_ref.map(str::to_owned),
        };
        let result = flags.apply(&mut body, &mut TaskSource::command());
        result
            .map(|()| body["workdir"].clone())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_flag_replaces_its_part_of_the_repository() {
        let of_file = json!({"workdir": {"url": "https://x/r", "ref": "main"}});
        for (body, url, git_ref, expected) in [
            (json!({}), None, None, json!(null)),
            (of_file.clone(), None, None, of_file["workdir"].clone()),
            (
                of_file.clone(),
                None,
                Some("v1"),
                json!({"url": "https://x/r", "ref": "v1"}),
            ),
            (
                of_file.clone(),
                Some("git@y:r"),
                None,
                json!({"url": "git@y:r", "ref": "main"}),
            ),
            (
                json!({"workdir": "."}),
                Some("git@y:r"),
                None,
                json!({"url": "git@y:r"}),
            ),
            (
                json!({}),
                Some("git@y:r"),
                Some("v1"),
                json!({"url": "git@y:r", "ref": "v1"}),
            ),
        ] {
            assert_eq!(applied(body, url, git_ref), Ok(expected));
        }
        for body in [json!({}), json!({"workdir": "."})] {
            assert!(applied(body, None, Some("v1")).unwrap_err().contains("--git-url"));
        }
    }

    /// The name of the secret that a task gets from an environment with a token and a key, and its value.
    fn passed(body: &Value) -> Option<(&'static str, String)> {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let variable = |name: &str| match name {
            "GIT_TOKEN" => Some("token".to_owned()),
            "GIT_SSH_KEY_PATH" => Some(key.display().to_string()),
            _ => None,
        };
        credential(body, variable)
            .unwrap()
            .map(|found| (found.name, found.value))
    }

    #[test]
    fn a_task_without_a_credential_of_its_own_gets_that_of_the_caller() {
        let of = |url: &str| passed(&json!({"workdir": {"url": url}}));
        let token = Some(("GIT_TOKEN", "token".to_owned()));
        assert_eq!(of("https://x/r"), token);
        assert_eq!(of("http://127.0.0.1/r"), token);
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\n".to_owned();
        assert_eq!(of("git@x:r"), Some(("GIT_SSH_KEY", key)));
        for url in ["http://x/r", "file:///r", "https://x"] {
            assert_eq!(of(url), None, "{url}");
        }
        for body in [
            json!({}),
            json!({"workdir": "."}),
            json!({"workdir": {"url": "https://x/r"}, "secrets": {"GIT_TOKEN": "own"}}),
            json!({"workdir": {"url": "https://x/r"}, "secrets": {"GIT_TOKEN": null}}),
            json!({"workdir": {"url": "https://x/r"}, "envs": {"GIT_TOKEN": "own"}}),
            json!({"workdir": {"url": "git@x:r"}, "secrets": {"GIT_SSH_KEY": "own"}}),
        ] {
            assert_eq!(passed(&body), None, "{body}");
        }
    }

    #[test]
    fn what_is_no_private_key_is_named() {
        let body = json!({"workdir": {"url": "git@x:r"}});
        let with_path = |path: &str| credential(&body, |name| (name == "GIT_SSH_KEY_PATH").then(|| path.to_owned()));
        assert!(
            with_path("/no/such/key")
                .unwrap_err()
                .to_string()
                .contains("/no/such/key")
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.pub");
        std::fs::write(&path, "ssh-ed25519 AAAA").unwrap();
        let error = with_path(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is not a private key"), "{error}");
    }
}
