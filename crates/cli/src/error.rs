//! Every way in which a command can fail, and the exit code of each.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::task_file::Report;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was typed makes no sense together.
    #[error("{0}")]
    Usage(String),
    /// The task is wrong, in the file or in what the server says of it.
    #[error("{0}")]
    Task(Report),
    /// A file cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `read`, `write` or `make`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such thing for this user.
    #[error("{0}")]
    NotFound(Said),
    /// The server refuses this user.
    #[error("the server refuses this: {0}")]
    Refused(Said),
    /// No server answers.
    #[error("no answer from `{url}`")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Another account of this machine listens where the server should.
    #[error("`{url}` {who}; nothing was sent to it")]
    Untrusted {
        /// Where it listens.
        url: String,
        /// What is known of it.
        who: String,
    },
    /// Somebody else answers than a server of ours, or nobody does who listens there.
    #[error("{what}")]
    Stranger {
        /// What is known of it.
        what: String,
        /// The HTTP status, if there is an answer.
        status: Option<u16>,
        /// Whether it stands between us and the server.
        is_proxy: bool,
    },
    /// A server of ours, from before this command line.
    #[error("`{url}` is an older k8s-cli server, which this version cannot use")]
    Outdated {
        /// Where it listens.
        url: String,
    },
    /// The server answers with an error.
    #[error("{0}")]
    Server(Said),
    /// The server finds fault with the values it was sent.
    #[error("{}", faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// All of them.
        faults: Vec<Fault>,
        /// See [`Said`].
        request_id: Option<String>,
    },
    /// An answer that is none of ours.
    #[error("`{url}` does not answer as a k8s-cli server")]
    Answer {
        /// Who answered.
        url: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The server on this machine does not start or stop.
    #[error("{0}")]
    Local(String),
    /// What was waited for did not happen in time.
    #[error("{0}")]
    TimedOut(String),
    /// Something of several things failed, and each was told.
    #[error("{0}")]
    Several(String),
    /// The person pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The task ended so, and its exit code was asked for.
    #[error("the task ended with exit code {0}")]
    Ended(u8),
    /// Standard output cannot be written.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// What was said of an error, by the server or by ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The words.
    pub text: String,
    /// The HTTP status; `None` when the server was not asked.
    pub status: Option<u16>,
    /// The server's name of the request, to find it in its log.
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

/// One value that the server does not take.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
pub struct Fault {
    /// Pydantic's name of the fault.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The way to it; the first step is `body`, `query`, `header` or `path`.
    pub loc: Vec<Value>,
    /// What is wrong.
    pub msg: String,
}

impl Fault {
    /// The keys below the body, the query or the header.
    pub fn path(&self) -> Vec<String> {
        let step = |step: &Value| step.as_str().map_or_else(|| step.to_string(), str::to_owned);
        self.loc.iter().skip(1).map(step).collect()
    }

    /// What is wrong, without Pydantic's `Value error, `.
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
    /// The exit code; `k8s-cli --help` lists them.
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

    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => {
                Some("start a server with `k8s-cli api start`, or name one with `--api-url` or K8S_CLI_API_URL")
            }
            Self::Outdated { .. } => Some(
                "`k8s-cli api stop` stops it if it was started here, and `k8s-cli api start` starts this version; else ask whoever runs it to update it",
            ),
            Self::Stranger { is_proxy: true, .. } => {
                Some("ask whoever runs that proxy, or name another server with `--api-url` or K8S_CLI_API_URL")
            }
            Self::Stranger { .. } => Some(
                "another program listens there; name the server with `--api-url`, or another port with K8S_CLI_API_PORT",
            ),
            Self::Answer { .. } => Some("is another program listening there? `k8s-cli doctor` looks"),
            Self::Untrusted { .. } => {
                Some("choose another port with K8S_CLI_API_PORT, or add `--trust-local-server` if you know whose it is")
            }
            Self::Refused(_) => Some("`k8s-cli auth whoami` shows the user that was sent"),
            _ => None,
        }
    }

    /// The server's name of the request that failed.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::NotFound(said) | Self::Refused(said) | Self::Server(said) => said.request_id.as_deref(),
            Self::Invalid { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// The whole of it, with its innermost cause: the layers between say the same in other words.
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

    /// For programs, which asked for JSON.
    pub fn json(&self) -> Value {
        // What is wrong with a task is a picture of its file, with headings.
        let plain_message = anstream::adapter::strip_str(&self.message()).to_string();
        let plain_message = plain_message.strip_prefix("error: ").unwrap_or(&plain_message);
        json!({"error": {
            "code": self.code(),
            "message": plain_message,
            "status": self.status(),
            "request_id": self.request_id(),
        }})
    }

    /// What went wrong, in a word that stays the same.
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

    /// The HTTP status, of an error that the server answered.
    fn status(&self) -> Option<u16> {
        match self {
            Self::NotFound(said) | Self::Refused(said) | Self::Server(said) => said.status,
            Self::Invalid { .. } => Some(422),
            Self::Stranger { status, .. } => *status,
            _ => None,
        }
    }

    /// Whether the reader of our output has gone: `k8s-cli jobs logs ID | head` is no failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether there is nothing to add to what was printed already.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Interrupted)
    }
}

/// The result of a command.
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
