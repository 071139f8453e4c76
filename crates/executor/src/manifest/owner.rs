//! The object that owns the Jobs of a task, so that deleting it deletes them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::script::{SCRIPT_KEY, Script};
use super::submission::Submission;
use super::{definition, hooks, job};
use crate::cache::{Stage, Turn};
use crate::kubernetes::ConfigMap;
use crate::labels;

/// The owner of a task's Jobs. It is a ConfigMap because it also stores scripts that are too long for an argument. The
/// task does not exist until the owner is committed; uncommitted owners are removed after `deadline`.
#[must_use]
pub fn owner(submission: &Submission, deadline: Timestamp) -> ConfigMap {
    let mut metadata = submission.metadata(submission.owner_name());
    metadata.annotations.get_or_insert_default().extend([
        (labels::SUBMIT_DEADLINE.to_owned(), task::time::format(deadline)),
        (labels::TRY.to_owned(), submission.try_token.clone()),
    ]);
    let annotations = metadata.annotations.get_or_insert_default();
    let turn = match &submission.group {
        Some(group) => {
            annotations.insert(labels::GROUP.to_owned(), group.member.to_annotation());
            Turn::FIRST.at(Stage::Held)
        }
        None => Turn::FIRST,
    };
    annotations.insert(labels::TURN.to_owned(), turn.to_string());
    annotations.extend(definition::annotations(submission, || {
        job::template(submission, 0).spec
    }));
    if let Some(fetched) = submission.files.fetched() {
        annotations.extend(fetched.annotations(&submission.definition, &submission.try_token));
    }
    let mut data: BTreeMap<String, String> = hooks::files(&submission.definition);
    if let Script::File(text) = submission.script() {
        data.insert(SCRIPT_KEY.to_owned(), text);
    }
    ConfigMap {
        metadata,
        data: (!data.is_empty()).then_some(data),
        ..ConfigMap::default()
    }
}
