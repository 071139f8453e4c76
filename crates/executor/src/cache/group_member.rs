//! The place of a task in the group it was submitted with, as its owner records it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use task::definition::MAX_GROUP_TASKS;
use task::wire::{GroupExecution, TaskGroup};
use task::{Execution, Id, Name};

use super::identity::InvalidObject;
use crate::labels;
use crate::names;
use crate::tokens;
use crate::user_key::UserKey;

/// The place of a task in its group.
///
/// The first task leads: its owner is committed before those of the others, and decides whether the group exists. The
/// tokens, and so the names of the owners, of all tasks derive from the leader's, so that each of them finds the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The ID of the group.
    pub group_id: Id,
    /// The name of the group.
    pub name: Name,
    /// The index of the task.
    pub index: u32,
    /// How many tasks were submitted.
    pub size: u32,
    /// How the tasks run.
    pub execution: Execution,
    /// The submission token of the leader.
    pub token: Box<str>,
}

/// A group of a user. Anybody can copy its ID into an annotation, but an owner with another token then belongs to another
/// group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    /// The ID. It comes first, so that all groups with the same ID are adjacent in sorted order.
    pub id: Id,
    pub user: UserKey,
    /// The submission token of the leader.
    pub token: Box<str>,
}

/// The text form of a [`GroupMember`].
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    name: String,
    index: u32,
    size: u32,
    execution: GroupExecution,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_parallel: Option<NonZeroU32>,
    token: String,
}

impl GroupMember {
    /// Reads the annotation of an owner of task `id`, whose submission has this `token`. Fails if this program could not
    /// have written it.
    pub(crate) fn from_annotation(text: &str, id: &str, token: &str) -> Result<Self, InvalidObject> {
        let invalid = InvalidObject("its group is invalid");
        let record: Record = serde_json::from_str(text).map_err(|_| invalid)?;
        let member = Self {
            group_id: Id::new(&record.id).ok_or(invalid)?,
            name: Name::new(&record.name).ok_or(invalid)?,
            index: record.index,
            size: record.size,
            execution: match record.execution {
                GroupExecution::Serial => Execution::Serial,
                GroupExecution::Parallel => Execution::Parallel {
                    max_parallel: record.max_parallel,
                },
            },
            token: record.token.into(),
        };
        let is_valid = (1..=MAX_GROUP_TASKS).contains(&member.size)
            && member.index < member.size
            && tokens::is_key_token(&member.token)
            && member.token_of(member.index) == token
            && member.id_of(member.index).as_str() == id;
        if is_valid { Ok(member) } else { Err(invalid) }
    }

    /// The annotation that [`Self::from_annotation`] reads.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        let (execution, max_parallel) = self.execution();
        let record = Record {
            id: self.group_id.to_string(),
            name: self.name.to_string(),
            index: self.index,
            size: self.size,
            execution,
            max_parallel,
            token: self.token.to_string(),
        };
        serde_json::to_string(&record).expect("a group is plain data")
    }

    /// The same group at another index.
    #[must_use]
    pub fn at(&self, index: u32) -> Self {
        Self { index, ..self.clone() }
    }

    /// The submission token of the task at `index`. It depends on the ID of the group, so that a try that starts over
    /// with another ID does not meet the objects of the one before.
    #[must_use]
    pub fn token_of(&self, index: u32) -> String {
        match index {
            0 => self.token.to_string(),
            index => tokens::hash(&[
                self.token.as_bytes(),
                self.group_id.as_str().as_bytes(),
                index.to_string().as_bytes(),
            ]),
        }
    }

    /// The ID of the task at `index`.
    #[must_use]
    pub fn id_of(&self, index: u32) -> Id {
        Id::from_hash(&[
            self.token.as_bytes(),
            self.group_id.as_str().as_bytes(),
            index.to_string().as_bytes(),
        ])
    }

    /// The name of the owner of the task at `index`.
    pub(crate) fn owner_name_of(&self, index: u32) -> String {
        names::key_object_name(&self.token_of(index))
    }

    /// Whether these are annotations of the leader of this group. Labels don't count: somebody may have removed them.
    pub(crate) fn is_led_by(&self, annotations: &BTreeMap<String, String>) -> bool {
        let leader = self.id_of(0);
        let read = |text: &String| Self::from_annotation(text, leader.as_str(), &self.token).ok();
        let recorded = annotations.get(labels::GROUP).and_then(read);
        recorded.is_some_and(|recorded| recorded.index == 0 && recorded.is_same_group(self))
    }

    /// Whether both are tasks of one group.
    pub(crate) fn is_same_group(&self, other: &Self) -> bool {
        self.group_id == other.group_id && self.token == other.token
    }

    /// The group in a status.
    pub(crate) fn to_wire(&self) -> TaskGroup {
        let (execution, max_parallel) = self.execution();
        TaskGroup {
            group_id: self.group_id.to_string(),
            name: self.name.to_string(),
            index: self.index,
            size: self.size,
            execution,
            max_parallel: max_parallel.map(NonZeroU32::get),
        }
    }

    /// What a task that has not started waits for.
    pub(crate) fn waits_for(&self) -> String {
        match self.execution {
            Execution::Serial => format!("waiting for task {} of {} of `{}`", self.index, self.size, self.name),
            Execution::Parallel {
                max_parallel: Some(most),
            } => format!("waiting until fewer than {most} tasks of `{}` run", self.name),
            Execution::Parallel { max_parallel: None } => "waiting for the server to start it".to_owned(),
        }
    }

    fn execution(&self) -> (GroupExecution, Option<NonZeroU32>) {
        match self.execution {
            Execution::Serial => (GroupExecution::Serial, None),
            Execution::Parallel { max_parallel } => (GroupExecution::Parallel, max_parallel),
        }
    }
}

#[cfg(test)]
impl GroupMember {
    /// Task `index` of a group of `size`.
    pub(crate) fn example(index: u32, size: u32, execution: Execution) -> Self {
        Self {
            group_id: Id::new("group000").unwrap(),
            name: Name::new("steps").unwrap(),
            index,
            size,
            execution,
            token: tokens::hash(&[b"a", b"key"]).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;
    use task::Execution;

    use super::GroupMember;

    proptest! {
        #[test]
        fn a_group_is_read_as_it_was_written(index in 0_u32..20, more in 1_u32..20, most in 0_u32..4, serial: bool) {
            let max_parallel = NonZeroU32::new(most);
            let execution = if serial { Execution::Serial } else { Execution::Parallel { max_parallel } };
            let member = GroupMember::example(index, index + more, execution);
            let read = |place: u32| {
                let (id, token) = (member.id_of(place), member.token_of(place));
                GroupMember::from_annotation(&member.to_annotation(), id.as_str(), &token)
            };
            prop_assert_eq!(read(index), Ok(member.clone()));
            prop_assert!(read(index + 1).is_err());
        }

        #[test]
        fn no_annotation_makes_the_reader_panic(text in ".{0,80}", token in ".{0,60}") {
            let _ = GroupMember::from_annotation(&text, "abcd1234", &token);
        }
    }

    #[test]
    fn bounds_are_checked() {
        let member = GroupMember::example(0, 2, Execution::Serial);
        let (id, token) = (member.id_of(0), member.token_of(0));
        let text = member.to_annotation();
        for (from, to) in [
            ("\"size\":2", "\"size\":0"),
            ("\"size\":2", "\"size\":4000000000"),
            ("\"index\":0", "\"index\":2"),
            ("group000", "group/00"),
            ("steps", "a/b"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text);
            assert!(
                GroupMember::from_annotation(&changed, id.as_str(), &token).is_err(),
                "{changed}"
            );
        }
    }
}
