//! The object that owns the Jobs of a task: deleting it undoes them all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Submission;
use super::script::{SCRIPT_KEY, Script, script};
use crate::cache::Turn;
use crate::kubernetes::ConfigMap;
use crate::labels;

/// A ConfigMap, because it also carries a script that is too long for an argument. Until it is committed the task does
/// not exist for anybody; after `deadline` an uncommitted one is removed.
#[must_use]
pub fn owner(submission: &Submission, deadline: Timestamp) -> ConfigMap {
    let mut metadata = submission.metadata(submission.owner_name());
    metadata.annotations.get_or_insert_default().extend([
        (labels::SUBMIT_DEADLINE.to_owned(), task::time::format(deadline)),
        (labels::TRY.to_owned(), submission.try_token.clone()),
        (labels::TURN.to_owned(), Turn::FIRST.to_string()),
    ]);
    let data = match script(&submission.definition) {
        Script::Argument(_) => None,
        Script::File(text) => Some(BTreeMap::from([(SCRIPT_KEY.to_owned(), text)])),
    };
    ConfigMap {
        metadata,
        data,
        ..ConfigMap::default()
    }
}
