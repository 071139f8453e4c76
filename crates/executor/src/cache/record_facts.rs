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
}

impl RecordFacts {
    /// Reads the annotations of the object.
    pub(crate) fn from_annotations(annotations: &BTreeMap<String, String>) -> Option<Self> {
        let definition = annotations.get(labels::DEFINITION);
        let stopped_by = annotations.get(labels::STOPPED_BY);
        let facts = Self {
            definition: definition
                .filter(|definition| definition.len() <= MAX_DEFINITION)
                .map(|definition| definition.as_str().into()),
            stopped_by: stopped_by
                .filter(|user| UserName::parse(user).is_ok())
                .map(|user| user.as_str().into()),
        };
        (facts.definition.is_some() || facts.stopped_by.is_some()).then_some(facts)
    }
}
