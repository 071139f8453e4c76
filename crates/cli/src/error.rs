//! The errors of all commands, with their exit codes and hints.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::task_file::Report;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments or variables are invalid.
    #[error("{0}")]
    Usage(String),
    /// The task is invalid, according to the CLI or the server.
    #[error("{0}")]
    Task(Report),
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `read`, `write`, `create`, or `remove`; `read` sets the exit code to 2.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The user has no such task or volume.
    #[error("{0}")]
    NotFound(Said),
    /// The server denied access.
    #[error("permission denied: {0}")]
    Refused(Said),
    /// No response from the server.
    #[error("cannot reach the server at `{url}`")]
    Unreachable { url: String, source: reqwest::Error },
    /// Another account on this machine listens at the server's address, or may do so.
    #[error("`{url}` {who}; nothing was sent to it")]
    Untrusted {
        url: String,
        /// Predicate of the message, e.g., `belongs to another account (UID 1001)`.
        who: String,
    },
    /// The response is not from a k8s-cli server, or a program accepted the connection but did not respond.
    #[error("{what}")]
    Stranger {
        what: String,
        /// The HTTP status, if there was a response.
        status: Option<u16>,
        /// Whether the response is from a proxy between the CLI and the server.
        is_proxy: bool,
    },
    /// A k8s-cli server that is too old for this CLI.
    #[error("the server at `{url}` is too old for this version of k8s-cli")]
    Outdated { url: String },
    /// Any other error response of the server.
    #[error("{0}")]
    Server(Said),
    /// The server rejected values in the request (HTTP status 422).
    #[error("{}", faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        faults: Vec<Fault>,
        request_id: Option<String>,
    },
    /// A response that cannot be decoded.
    #[error("`{url}` is not a k8s-cli server")]
    Answer { url: String, source: serde_json::Error },
    /// Something on this machine failed, e.g., starting or stopping the background server.
    #[error("{0}")]
    Local(String),
    #[error("{0}")]
    TimedOut(String),
    /// The summary of a command that failed in part, was declined, or waited for a state that can no longer be reached.
    #[error("{0}")]
    Several(String),
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The task failed or was stopped, which was already reported; only the exit code is left to pass on.
    #[error("the task ended with exit code {0}")]
    Ended(u8),
    /// Writing to standard output failed.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// An error message, from the server or from the CLI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub text: String,
    /// The HTTP status; `None` if the message is from the CLI.
    pub status: Option<u16>,
    /// The ID under which the server's log has the request.
    pub request_id: Option<String>,
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self {
            text,
            status: None,
            request_id: None,
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// A value that the server rejected, as Pydantic reports it.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Fault {
    /// Pydantic's error type, e.g., `extra_forbidden`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The path to the value. The first step is `body`, `query`, `header`, or `path`.
    pub loc: Vec<Value>,
    pub msg: String,
}

impl Fault {
    /// The path without its first step.
    pub fn path(&self) -> Vec<String> {
        let step = |step: &Value| step.as_str().map_or_else(|| step.to_string(), str::to_owned);
        self.loc.iter().skip(1).map(step).collect()
    }

    /// The message in lower case and without Pydantic's prefix `Value error, `.
    pub fn message(&self) -> String {
        let message = self.msg.strip_prefix("Value error, ").unwrap_or(&self.msg);
        let mut characters = message.chars();
        match characters.next() {
            Some(first) => first.to_lowercase().chain(characters).collect(),
            None => String::new(),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path().join(".");
        if path.is_empty() {
            formatter.write_str(&self.message())
        } else {
            write!(formatter, "`{path}`: {}", self.message())
        }
    }
}

impl Error {
    /// The exit code. `k8s-cli --help` documents them, so keep both in sync.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Task(_) | Self::Invalid { .. } | Self::File { action: "read", .. } => 2,
            Self::NotFound(_) => 3,
            Self::Refused(_)
            | Self::Stranger {
                status: Some(401 | 403 | 407),
                ..
            } => 4,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::Stranger { .. } | Self::Outdated { .. } => 5,
            Self::TimedOut(_) => 124,
            Self::Interrupted => 130,
            Self::Ended(code) => *code,
            Self::File { .. }
            | Self::Server(_)
            | Self::Answer { .. }
            | Self::Local(_)
            | Self::Several(_)
            | Self::Output(_) => 1,
        }
    }

    /// What the user can do about the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("start a server with `k8s-cli api start`, or set `--api-url` or K8S_CLI_API_URL")
            }
            Self::Outdated { .. } => Some(
                "if it runs on this machine, restart it with `k8s-cli api stop` and `k8s-cli api start`; otherwise, ask its administrator to update it",
            ),
            Self::Stranger { is_proxy: true, .. } => Some(
                "contact the administrator of the proxy, or set another server with `--api-url` or K8S_CLI_API_URL",
            ),
            Self::Stranger { .. } => Some(
                "another program may be using that port; set the server with `--api-url`, or another port with K8S_CLI_API_PORT",
            ),
            Self::Answer { .. } => Some("another program may be using that port; run `k8s-cli doctor`"),
            Self::Untrusted { .. } => {
                Some("set another port with K8S_CLI_API_PORT, or pass `--trust-local-server` if you trust that server")
            }
            Self::Refused(_) => Some("run `k8s-cli auth whoami` to show the current user"),
            _ => None,
        }
    }

    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::NotFound(said) | Self::Refused(said) | Self::Server(said) => said.request_id.as_deref(),
            Self::Invalid { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// The message with the innermost cause. The layers in between only repeat it in other words.
    pub fn message(&self) -> String {
        let mut cause = self.source();
        while let Some(inner) = cause.and_then(std::error::Error::source) {
            cause = Some(inner);
        }
        match cause {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// The error as JSON, for `--output json`.
    pub fn json(&self) -> Value {
        // A report on a task file is styled and starts each message with `error: `.
        let plain_message = anstream::adapter::strip_str(&self.message()).to_string();
        let plain_message = plain_message.strip_prefix("error: ").unwrap_or(&plain_message);
        json!({"error": {
            "code": self.code(),
            "message": plain_message,
            "status": self.status(),
            "request_id": self.request_id(),
        }})
    }

    /// A stable, machine-readable code.
    fn code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::Task(_) | Self::Invalid { .. } => "invalid",
            Self::File { .. } => "file",
            Self::NotFound(_) => "not_found",
            Self::Refused(_) => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::Untrusted { .. } => "untrusted",
            Self::Stranger { is_proxy: true, .. } => "proxy",
            Self::Stranger { .. } => "no_server",
            Self::Outdated { .. } => "outdated",
            Self::Server(_) => "server",
            Self::Answer { .. } => "no_server",
            Self::Local(_) => "local_server",
            Self::TimedOut(_) => "timed_out",
            Self::Several(_) => "several",
            Self::Interrupted => "interrupted",
            Self::Ended(_) => "task_failed",
            Self::Output(_) => "output",
        }
    }

    /// The HTTP status of the error response, if there was one.
    fn status(&self) -> Option<u16> {
        match self {
            Self::NotFound(said) | Self::Refused(said) | Self::Server(said) => said.status,
            Self::Invalid { .. } => Some(422),
            Self::Stranger { status, .. } => *status,
            _ => None,
        }
    }

    /// Whether the reader closed the pipe, as in `k8s-cli jobs logs ID | head`, which is not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the error was already reported.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Interrupted)
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Error, Fault, Said};

    #[test]
    fn programs_get_the_code_and_the_request() {
        let error = Error::NotFound(Said {
            text: "task `x` not found".to_owned(),
            status: Some(404),
            request_id: Some("r1".to_owned()),
        });
        let expected =
            json!({"error": {"code": "not_found", "message": "task `x` not found", "status": 404, "request_id": "r1"}});
        assert_eq!(error.json(), expected);
        let own = Error::NotFound(Said::from("none".to_owned()));
        assert_eq!(
            (own.status(), own.request_id()),
            (None, None),
            "the server was not asked"
        );
    }

    #[test]
    fn a_fault_names_the_path_and_says_it_in_our_words() {
        let fault = |loc, msg: &str| {
            Fault {
                kind: String::new(),
                loc,
                msg: msg.to_owned(),
            }
            .to_string()
        };
        let loc = vec![json!("body"), json!("resources"), json!("ports"), json!(1)];
        assert_eq!(fault(loc, "Value error, no port"), "`resources.ports.1`: no port");
        assert_eq!(fault(vec![json!("body")], "Field required"), "field required");
    }
}
