//! How a node has ended, as the server records it on its Job: the pod, which says it first, may be deleted at any time,
//! e.g., when its machine is removed, and a Job alone only says that it has failed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use task::TaskState;

use super::identity::{MAX_MESSAGE, MAX_REASON, truncate};
use super::reasons::Reason;

/// The end of a node whose Job has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEnd {
    /// The container may have succeeded even though the Job has failed, because of another container.
    pub state: TaskState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl NodeEnd {
    /// Reads the annotation that [`Self::to_annotation`] wrote; `None` if somebody else did.
    pub(super) fn from_annotation(text: &str) -> Option<Self> {
        let mut end: Self = serde_json::from_str(text).ok()?;
        let cut = |text: String, limit: usize| truncate(&text, limit).to_owned();
        end.reason = end.reason.map(|reason| cut(reason, MAX_REASON));
        end.message = end.message.map(|message| cut(message, MAX_MESSAGE));
        end.state.is_final().then_some(end)
    }

    /// The value of the annotation.
    pub(crate) fn to_annotation(&self) -> String {
        serde_json::to_string(self).expect("text, numbers, and times are JSON")
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        let message = self.message.as_deref().unwrap_or_default();
        self.reason.as_deref().map(|reason| Reason::new(reason, message))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use task::TaskState;

    use super::NodeEnd;

    #[test]
    fn an_end_is_read_as_it_was_written() {
        let end = NodeEnd {
            state: TaskState::Failed,
            reason: Some("Error".to_owned()),
            message: Some("the container exited with code 7".to_owned()),
            exit_code: Some(7),
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: None,
        };
        assert_eq!(NodeEnd::from_annotation(&end.to_annotation()), Some(end));
    }

    #[test]
    fn what_is_no_end_is_ignored_and_long_text_is_cut() {
        for text in [
            "",
            "{}",
            "7",
            r#"{"state":"running"}"#,
            r#"{"state":"failed","exit_code":"x"}"#,
        ] {
            assert_eq!(NodeEnd::from_annotation(text), None, "{text}");
        }
        let long = format!(r#"{{"state":"failed","message":"{}"}}"#, "é".repeat(10_000));
        assert!(NodeEnd::from_annotation(&long).unwrap().message.unwrap().len() <= 2048);
    }
}
