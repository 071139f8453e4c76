//! Reads and validates the labels and annotations that assign an object to a user and a task.
//!
//! Anybody who may create objects in the namespace can write arbitrary labels. Objects that this program could not have
//! written are ignored, with one warning each.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use task::definition::MAX_NODES;
use task::{Id, Name, UserName};

use crate::kubernetes::ObjectMeta;
use crate::labels;
use crate::tokens;
use crate::user_key;
use crate::user_key::UserKey;

/// The longest submission token, which is a hash. Others are shorter.
const MAX_TOKEN: usize = 64;

/// The longest ID, which is the longest label value. Ours have 8 characters.
const MAX_ID: usize = 63;

/// How far the creation time in an annotation may be ahead of the one from Kubernetes, because clocks differ.
const CREATED_AT_TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// The beginning of 2014, the year of Kubernetes' first release. Earlier creation times are invalid.
const FIRST_SECOND: i64 = 1_388_534_400;

/// Limits on a message and a reason from Kubernetes, because an admission policy may send long ones.
pub(crate) const MAX_MESSAGE: usize = 2048;
pub(crate) const MAX_REASON: usize = 128;

/// Why an object that carries our labels is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidObject(pub &'static str);

/// The task that an object claims to belong to. Objects belong together only if all three fields agree. Anybody can
/// copy a task's ID into a label, but an object with another user or submission then counts as another task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    /// The ID. It comes first, so that all tasks with the same ID are adjacent in sorted order.
    pub id: Box<str>,
    /// The user.
    pub user: UserKey,
    /// The token of the submission, or `None` for a task of the Python implementation.
    pub submission: Option<Box<str>>,
}

/// The validated labels and annotations of an object.
pub(crate) struct Identity<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub annotations: &'a BTreeMap<String, String>,
    pub uid: &'a str,
    pub object: &'a str,
    pub id: &'a str,
    pub name: &'a str,
    pub user: UserKey,
    pub username: &'a str,
    pub submission: Option<&'a str>,
    pub created_at: Timestamp,
    pub creation_timestamp: Timestamp,
}

impl<'a> Identity<'a> {
    /// Reads the metadata of an object; `id` and `name` are the labels for its ID and name. Fails if neither this
    /// program nor the Python implementation could have written it.
    pub(crate) fn from_metadata(metadata: &'a ObjectMeta, id: &str, name: &str) -> Result<Self, InvalidObject> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = metadata.labels.as_ref().unwrap_or(&NONE);
        let annotations = metadata.annotations.as_ref().unwrap_or(&NONE);
        let (Some(uid), Some(object), Some(creation_timestamp)) =
            (&metadata.uid, &metadata.name, &metadata.creation_timestamp)
        else {
            return Err(InvalidObject("it has no uid, name, or creation time"));
        };
        let id = labels
            .get(id)
            .filter(|id| is_id(id))
            .ok_or(InvalidObject("it has no valid ID"))?;
        let submission = tokens::submission(annotations);
        let (user, username) = user(labels, annotations, submission)?;
        if submission.is_some() && !Id::is_valid(id) {
            return Err(InvalidObject("its ID is not one of this server"));
        }
        let exact_name = annotations.get(labels::EXACT_NAME).or_else(|| labels.get(name));
        let name = exact_name.map_or(id.as_str(), String::as_str);
        if Name::new(name).is_none() {
            return Err(InvalidObject("its name is invalid"));
        }
        if submission.is_some_and(|token| !tokens::is_id(id, token, name)) {
            return Err(InvalidObject("its ID does not match its submission"));
        }
        // This time is only displayed and used for sorting. Where precedence matters, the time from Kubernetes decides.
        let can_be = |time: &Timestamp| {
            time.as_second() >= FIRST_SECOND && time.duration_since(creation_timestamp.0) <= CREATED_AT_TOLERANCE
        };
        let created_at = time(annotations, labels::CREATED_AT)
            .filter(can_be)
            .unwrap_or(creation_timestamp.0);
        Ok(Self {
            labels,
            annotations,
            uid,
            object,
            id,
            name,
            user,
            username,
            submission,
            created_at,
            creation_timestamp: creation_timestamp.0,
        })
    }

    pub(crate) fn key(&self) -> TaskKey {
        TaskKey {
            id: self.id.into(),
            user: self.user.clone(),
            submission: self.submission.map(Into::into),
        }
    }

    /// The number of nodes of the task: at least 1.
    pub(crate) fn num_nodes(&self) -> Result<u32, InvalidObject> {
        let num_nodes = number(
            self.annotations,
            labels::NUM_NODES,
            MAX_NODES,
            "its number of nodes is invalid",
        )?;
        Ok(num_nodes.unwrap_or(1).max(1))
    }

    /// Whether the Python implementation created it, which writes none of our annotations.
    pub(crate) fn is_python(&self) -> bool {
        self.submission.is_none()
    }
}

/// The user of an object. Our objects have a token, and an annotation with the name whose hash is in the label.
fn user<'a>(
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    submission: Option<&str>,
) -> Result<(UserKey, &'a str), InvalidObject> {
    let key = UserKey::from_labels(labels).ok_or(InvalidObject("it has no user"))?;
    match (labels.get(labels::USER), submission) {
        (Some(hash), Some(token)) => {
            let is_token =
                (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_token {
                return Err(InvalidObject("its submission token is invalid"));
            }
            let username = annotations
                .get(labels::EXACT_USERNAME)
                .ok_or(InvalidObject("it does not name its user"))?;
            let user = UserName::parse(username).map_err(|_| InvalidObject("its user name is invalid"))?;
            if user_key::user_label(&user) != *hash {
                return Err(InvalidObject("its user name does not match its `k8s-cli/user` label"));
            }
            Ok((key, username))
        }
        (Some(_), None) => Err(InvalidObject("it has no submission token")),
        (None, Some(_)) => Err(InvalidObject("it has a submission token but no `k8s-cli/user` label")),
        (None, None) => {
            let username = labels.get(labels::USERNAME).ok_or(InvalidObject("it has no user"))?;
            Ok((key, username))
        }
    }
}

/// Whether a label value can be the ID of a task or volume, which becomes part of paths and selectors.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The value of `key`, truncated to `limit` bytes.
pub(crate) fn text(map: &BTreeMap<String, String>, key: &str, limit: usize) -> Option<Box<str>> {
    map.get(key).map(|text| truncate(text, limit).into())
}

/// A text, truncated to `limit` bytes at a character boundary.
pub(crate) fn truncate(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// The value of `key` as a time, if it is valid.
pub(crate) fn time(map: &BTreeMap<String, String>, key: &str) -> Option<Timestamp> {
    task::time::parse(map.get(key)?)
}

/// The value of `key` as a number, or `None` if it is missing. Fails if it is not a number, or exceeds `limit`:
/// otherwise one forged annotation could make the server allocate millions of nodes.
pub(crate) fn number(
    map: &BTreeMap<String, String>,
    key: &'static str,
    limit: u32,
    what: &'static str,
) -> Result<Option<u32>, InvalidObject> {
    match map.get(key) {
        None => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(number) if number <= limit => Ok(Some(number)),
            _ => Err(InvalidObject(what)),
        },
    }
}

/// The uid of the owner of this kind. A Job must also be the controller.
pub(crate) fn owner_uid(metadata: &ObjectMeta, kind: &str) -> Option<String> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.kind == kind && (kind != "Job" || owner.controller == Some(true)))
        .map(|owner| owner.uid.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Identity, truncate};
    use crate::kubernetes::ObjectMeta;
    use crate::labels;
    use crate::user_key;

    const ALICE: &str = "alice@example.com";

    fn metadata(change: impl FnOnce(&mut Value)) -> ObjectMeta {
        let user = task::UserName::parse(ALICE).unwrap();
        let mut value = json!({
            "uid": "u", "name": "train-abcd1234", "creationTimestamp": "2026-11-23T15:30:34Z",
            "labels": {"task-id": "abcd1234", "task-name": "train", "username": "alice-example.com",
                       "k8s-cli/user": user_key::user_label(&user)},
            "annotations": {"k8s-cli/username": ALICE, "k8s-cli/submission": "token", "k8s-cli/name": "train",
                            "created-at": "2026-11-23T15:30:30Z"},
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    fn ignored(change: impl FnOnce(&mut Value)) -> &'static str {
        let metadata = metadata(change);
        let ignored = Identity::from_metadata(&metadata, labels::TASK_ID, labels::TASK_NAME).err();
        ignored.expect("it is none of ours").0
    }

    #[test]
    fn an_object_of_ours_says_whose_it_is() {
        let metadata = metadata(|_| {});
        let identity = Identity::from_metadata(&metadata, labels::TASK_ID, labels::TASK_NAME).unwrap();
        assert_eq!((identity.username, identity.is_python()), (ALICE, false));
        assert_eq!(identity.created_at.to_string(), "2026-11-23T15:30:30Z");
    }

    #[test]
    fn what_this_program_could_not_have_written_is_ignored() {
        ignored(|object| {
            drop(
                object["annotations"]
                    .as_object_mut()
                    .unwrap()
                    .remove("k8s-cli/submission"),
            )
        });
        ignored(|object| object["annotations"]["k8s-cli/submission"] = "a b".into());
        ignored(|object| object["annotations"]["k8s-cli/submission"] = "a".repeat(65).into());
        ignored(|object| object["annotations"]["k8s-cli/username"] = "bob".into());
        ignored(|object| {
            drop(
                object["annotations"]
                    .as_object_mut()
                    .unwrap()
                    .remove("k8s-cli/username"),
            )
        });
        ignored(|object| object["annotations"]["k8s-cli/name"] = "a/b".into());
        ignored(|object| drop(object["labels"].as_object_mut().unwrap().remove("k8s-cli/user")));
        ignored(|object| object["labels"]["task-id"] = "".into());
    }

    #[test]
    fn a_time_of_creation_that_cannot_be_is_that_of_kubernetes() {
        let metadata = metadata(|object| object["annotations"]["created-at"] = "1970-01-01T00:00:00Z".into());
        let identity = Identity::from_metadata(&metadata, labels::TASK_ID, labels::TASK_NAME).unwrap();
        assert_eq!(Some(Time(identity.created_at)), metadata.creation_timestamp);
    }

    proptest! {
        #[test]
        fn a_text_is_cut_between_characters(text in ".{0,40}", limit in 0_usize..50) {
            prop_assert!(truncate(&text, limit).len() <= limit && text.starts_with(truncate(&text, limit)));
        }

        /// Whatever is in the labels and annotations, reading it ends well.
        #[test]
        fn nothing_in_labels_and_annotations_makes_the_reader_panic(values in prop::collection::vec(".{0,80}", 8)) {
            let metadata = metadata(|object| {
                for (index, key) in ["task-id", "task-name", "username", "k8s-cli/user"].iter().enumerate() {
                    object["labels"][*key] = values[index].clone().into();
                }
                for (index, key) in ["k8s-cli/username", "k8s-cli/submission", "k8s-cli/name", "created-at"].iter().enumerate() {
                    object["annotations"][*key] = values[index + 4].clone().into();
                }
            });
            let _ = Identity::from_metadata(&metadata, labels::TASK_ID, labels::TASK_NAME);
        }
    }
}
