//! The annotation of a Job that waits for its group: the Kueue queue that it enters once its group starts it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::identity::{InvalidObject, MAX_REASON};
use crate::labels;

/// A Job that its group has not started yet. It is suspended, and has no queue label, or Kueue would admit it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldJob {
    /// The Kueue queue of the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Its priority class in that queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
}

impl HeldJob {
    /// Reads the annotations of a Job.
    pub(crate) fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, InvalidObject> {
        let invalid = InvalidObject("what it is held for is invalid");
        let Some(text) = annotations.get(labels::HELD) else {
            return Ok(None);
        };
        let held: Self = serde_json::from_str(text).map_err(|_| invalid)?;
        let is_short = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= MAX_REASON);
        if is_short(&held.queue) && is_short(&held.priority) {
            Ok(Some(held))
        } else {
            Err(invalid)
        }
    }

    /// The annotation that [`Self::from_annotations`] reads.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        serde_json::to_string(self).expect("plain data")
    }

    /// The change that starts the Job: it is resumed, or enters its queue, which then resumes it.
    pub(crate) fn start(&self, now: Timestamp) -> Value {
        let now = task::time::format(now);
        let mut change = json!({"metadata": {"annotations": {labels::HELD: null, labels::GROUP_STARTED_AT: now}}});
        match &self.queue {
            None => change["spec"] = json!({"suspend": false}),
            Some(queue) => {
                change["metadata"]["labels"] = json!({labels::QUEUE: queue});
                if let Some(priority) = &self.priority {
                    change["metadata"]["labels"][labels::QUEUE_PRIORITY] = json!(priority);
                }
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::HeldJob;
    use crate::labels;

    fn read(text: &str) -> Option<Option<HeldJob>> {
        HeldJob::from_annotations(&BTreeMap::from([(labels::HELD.to_owned(), text.to_owned())])).ok()
    }

    #[test]
    fn a_held_job_is_read_as_it_was_written() {
        let queued = HeldJob {
            queue: Some("gpus".to_owned()),
            priority: None,
        };
        for held in [HeldJob::default(), queued] {
            assert_eq!(read(&held.to_annotation()), Some(Some(held)));
        }
        assert_eq!(read("no"), None);
        assert_eq!(read(&format!(r#"{{"queue":"{}"}}"#, "a".repeat(200))), None);
        assert_eq!(HeldJob::from_annotations(&BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn a_job_with_a_queue_stays_suspended_until_the_queue_admits_it() {
        let queued = HeldJob {
            queue: Some("gpus".to_owned()),
            priority: Some("high".to_owned()),
        };
        let start = |held: &HeldJob| held.start(Timestamp::UNIX_EPOCH);
        insta::assert_snapshot!(start(&HeldJob::default()), @r#"{"metadata":{"annotations":{"k8s-cli/held":null,"k8s-cli/group-started-at":"1970-01-01T00:00:00.000000Z"}},"spec":{"suspend":false}}"#);
        insta::assert_snapshot!(start(&queued), @r#"{"metadata":{"annotations":{"k8s-cli/held":null,"k8s-cli/group-started-at":"1970-01-01T00:00:00.000000Z"},"labels":{"kueue.x-k8s.io/queue-name":"gpus","kueue.x-k8s.io/priority-class":"high"}}}"#);
    }
}
