//! The errors of all commands, with their exit codes and hints.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::field_error::FieldError;
use crate::report::Report;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments or variables are invalid.
    #[error("{0}")]
    Usage(String),
    /// The task is invalid, according to the CLI or the server.
    #[error("{0}")]
    InvalidTask(Report),
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: FileAction,
        path: PathBuf,
        source: io::Error,
    },
    /// A folder or file cannot be copied.
    #[error("{0}")]
    Files(files::Error),
    /// The user has no such task or volume.
    #[error("{0}")]
    NotFound(ErrorMessage),
    /// The server denied access.
    #[error("permission denied: {0}")]
    PermissionDenied(ErrorMessage),
    /// No response from the server.
    #[error("cannot reach the server at `{url}`")]
    Unreachable { url: String, source: reqwest::Error },
    /// Another account on this machine listens at the server's address, or may do so.
    #[error("`{url}` {reason}; nothing was sent to it")]
    Untrusted {
        url: String,
        /// Predicate of the message, e.g., `belongs to another account (UID 1001)`.
        reason: String,
    },
    /// The response is from a proxy between the CLI and the server.
    #[error("{message}")]
    Proxy { message: String, status: u16 },
    /// The response is not from a k8s-cli server, or a program accepted the connection but did not respond.
    #[error("{message}")]
    WrongServer {
        message: String,
        /// The HTTP status, if there was a response.
        status: Option<u16>,
    },
    /// A k8s-cli server that is too old for this CLI.
    #[error("the server at `{url}` is too old for this version of k8s-cli")]
    OutdatedServer { url: String },
    /// Any other error response of the server.
    #[error("{0}")]
    Server(ErrorMessage),
    /// The server rejected values in the request (HTTP status 422).
    #[error("{}", errors.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        errors: Vec<FieldError>,
        request_id: Option<String>,
    },
    /// A response that cannot be decoded.
    #[error("`{url}` is not a k8s-cli server")]
    InvalidResponse { url: String, source: serde_json::Error },
    /// Something on this machine failed, e.g., starting or stopping the background server.
    #[error("{0}")]
    Local(String),
    #[error("{0}")]
    TimedOut(String),
    /// The summary of a command that has already reported the details: not all tasks or volumes were removed, problems
    /// were found, or a task can no longer reach the state to wait for.
    #[error("{0}")]
    Incomplete(String),
    /// The user declined a confirmation.
    #[error("canceled")]
    Canceled,
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The task failed or was stopped, which was already reported; only the exit code is left to pass on.
    #[error("the task ended with exit code {0}")]
    TaskFailed(u8),
    /// Writing to standard output failed.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// What the CLI tried to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileAction {
    Read,
    Write,
    Create,
    Remove,
}

impl std::fmt::Display for FileAction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Remove => "remove",
        })
    }
}

/// The hint if something else responds.
pub(crate) const PORT_IN_USE: &str =
    "another program may be using that port; set the server with `--api-url`, or another port with K8S_CLI_API_PORT";

/// An error message, from the server or from the CLI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorMessage {
    pub text: String,
    /// The HTTP status; `None` if the message is from the CLI.
    pub status: Option<u16>,
    /// The ID under which the server's log has the request.
    pub request_id: Option<String>,
}

impl From<String> for ErrorMessage {
    fn from(text: String) -> Self {
        Self {
            text,
            status: None,
            request_id: None,
        }
    }
}

impl std::fmt::Display for ErrorMessage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Error {
    /// For `map_err` of a file operation.
    pub(crate) fn file(action: FileAction, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// The exit code. `k8s-cli --help` documents them, so keep both in sync.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::InvalidTask(_)
            | Self::Invalid { .. }
            | Self::Files(_)
            | Self::File {
                action: FileAction::Read,
                ..
            } => 2,
            Self::NotFound(_) => 3,
            Self::PermissionDenied(_)
            | Self::Proxy {
                status: 401 | 403 | 407,
                ..
            } => 4,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Proxy { .. }
            | Self::WrongServer { .. }
            | Self::OutdatedServer { .. } => 5,
            Self::TimedOut(_) => 124,
            Self::Interrupted => 130,
            Self::TaskFailed(code) => *code,
            Self::File { .. }
            | Self::Server(_)
            | Self::InvalidResponse { .. }
            | Self::Local(_)
            | Self::Incomplete(_)
            | Self::Canceled
            | Self::Output(_) => 1,
        }
    }

    /// What the user can do about the error.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("start a server with `k8s-cli api start`, or set `--api-url` or K8S_CLI_API_URL")
            }
            Self::OutdatedServer { .. } => Some(
                "if it runs on this machine, restart it with `k8s-cli api stop` and `k8s-cli api start`; otherwise, ask its administrator to update it",
            ),
            Self::Proxy { .. } => Some(
                "contact the administrator of the proxy, or set another server with `--api-url` or K8S_CLI_API_URL",
            ),
            Self::WrongServer { .. } => Some(PORT_IN_USE),
            Self::InvalidResponse { .. } => Some("another program may be using that port; run `k8s-cli doctor`"),
            Self::Untrusted { .. } => {
                Some("set another port with K8S_CLI_API_PORT, or pass `--trust-local-server` if you trust that server")
            }
            Self::PermissionDenied(_) => Some("run `k8s-cli auth whoami` to show the current user"),
            _ => None,
        }
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        match self {
            Self::NotFound(message) | Self::PermissionDenied(message) | Self::Server(message) => {
                message.request_id.as_deref()
            }
            Self::Invalid { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// The message with the innermost cause. The layers in between only repeat it in other words.
    pub(crate) fn message(&self) -> String {
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
    pub(crate) fn to_json(&self) -> Value {
        // A report on a task file is styled and starts each message with `error: `.
        let plain_message = anstream::adapter::strip_str(&self.message()).to_string();
        let plain_message = plain_message.strip_prefix("error: ").unwrap_or(&plain_message);
        json!({"error": {
            "code": self.error_code(),
            "message": plain_message,
            "status": self.status(),
            "request_id": self.request_id(),
        }})
    }

    /// A stable, machine-readable code.
    fn error_code(&self) -> &'static str {
        match self {
            Self::Usage(_) => "usage",
            Self::InvalidTask(_) | Self::Invalid { .. } => "invalid",
            Self::File { .. } | Self::Files(_) => "file",
            Self::NotFound(_) => "not_found",
            Self::PermissionDenied(_) => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::Untrusted { .. } => "untrusted",
            Self::Proxy { .. } => "proxy",
            Self::WrongServer { .. } | Self::InvalidResponse { .. } => "no_server",
            Self::OutdatedServer { .. } => "outdated",
            Self::Server(_) => "server",
            Self::Local(_) => "local_server",
            Self::TimedOut(_) => "timed_out",
            Self::Incomplete(_) | Self::Canceled => "several",
            Self::Interrupted => "interrupted",
            Self::TaskFailed(_) => "task_failed",
            Self::Output(_) => "output",
        }
    }

    /// The HTTP status of the error response, if there was one.
    fn status(&self) -> Option<u16> {
        match self {
            Self::NotFound(message) | Self::PermissionDenied(message) | Self::Server(message) => message.status,
            Self::Invalid { .. } => Some(422),
            Self::Proxy { status, .. } => Some(*status),
            Self::WrongServer { status, .. } => *status,
            _ => None,
        }
    }

    /// Whether the reader closed the pipe, as in `k8s-cli jobs logs ID | head`, which is not a failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether the error was already reported.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::TaskFailed(_) | Self::Interrupted)
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Error, ErrorMessage};

    #[test]
    fn programs_get_the_code_and_the_request() {
        let error = Error::NotFound(ErrorMessage {
            text: "task `x` not found".to_owned(),
            status: Some(404),
            request_id: Some("r1".to_owned()),
        });
        let expected =
            json!({"error": {"code": "not_found", "message": "task `x` not found", "status": 404, "request_id": "r1"}});
        assert_eq!(error.to_json(), expected);
        let own = Error::NotFound(ErrorMessage::from("none".to_owned()));
        assert_eq!(
            (own.status(), own.request_id()),
            (None, None),
            "the server was not asked"
        );
    }
}
