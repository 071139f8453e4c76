//! What the record of a task needs, and no Kubernetes object but the owner of the task or its only Job has.

use std::collections::BTreeMap;

use task::UserName;

use crate::labels;

/// The longest definition that is kept in memory.
pub(crate) const MAX_DEFINITION: usize = 32 * 1024;

/// What the owner of a task, or its only Job, says for its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFacts {
    /// The definition as JSON, without the values of secrets.
    pub definition: Option<Box<str>>,
    /// Who stopped the task.
    pub stopped_by: Option<Box<str>>,
    /// Who canceled the task.
    pub canceled_by: Option<Box<str>>,
}

impl RecordFacts {
    /// Reads the annotations of the object.
    pub(crate) fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let definition = annotations.get(labels::DEFINITION);
        let user = |key: &str| {
            let user = annotations.get(key).filter(|user| UserName::parse(user).is_ok());
            user.map(|user| user.as_str().into())
        };
        let facts = Self {
            definition: definition
                .filter(|definition| definition.len() <= MAX_DEFINITION)
                .map(|definition| definition.as_str().into()),
            stopped_by: user(labels::STOPPED_BY),
            canceled_by: user(labels::CANCELED_BY),
        };
        let is_empty = facts.definition.is_none() && facts.stopped_by.is_none() && facts.canceled_by.is_none();
        (!is_empty).then_some(facts)
    }
}
