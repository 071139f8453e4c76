//! What the record of a task needs, and no Kubernetes object but the owner of the task or its only Job has.

use std::collections::BTreeMap;

use task::UserName;

use crate::labels;

/// The longest definition that is kept in memory.
pub(crate) const MAX_DEFINITION: usize = 32 * 1024;

/// What the owner of a task, or its only Job, says for its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFacts {
    /// The definition as JSON, without the values of secrets.
    pub definition: Option<Box<str>>,
    /// What each node requests, as JSON.
    pub requests: Option<Box<str>>,
    /// Who stopped the task.
    pub stopped_by: Option<Box<str>>,
    /// Who canceled the task.
    pub canceled_by: Option<Box<str>>,
}

impl RecordFacts {
    /// Reads the annotations of the object.
    pub(crate) fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let kept = |key: &str| {
            let value = annotations.get(key).filter(|value| value.len() <= MAX_DEFINITION);
            value.map(|value| value.as_str().into())
        };
        let user = |key: &str| {
            let user = annotations.get(key).filter(|user| UserName::parse(user).is_ok());
            user.map(|user| user.as_str().into())
        };
        let facts = Self {
            definition: kept(labels::DEFINITION),
            requests: kept(labels::REQUESTS),
            stopped_by: user(labels::STOPPED_BY),
            canceled_by: user(labels::CANCELED_BY),
        };
        (facts != Self::default()).then_some(facts)
    }
}
