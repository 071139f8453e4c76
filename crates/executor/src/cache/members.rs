//! Decides which of the objects that claim to belong to a task do.

use super::job::Job;
use super::object::TaskOwner;
use crate::tokens::{self, Shape};

/// The Jobs with one key that belong to its task.
///
/// In the Python implementation, these are all Jobs with the key. Here, they are one Job without an owner, or the Jobs
/// of one owner, in attempts that the owner has recorded. A forged Job has a different owner, or was created later.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Members<'a> {
    All,
    Owned(&'a TaskOwner),
    Single(&'a str),
    None,
}

impl<'a> Members<'a> {
    pub(crate) fn of(owners: &'a [TaskOwner], jobs: impl Iterator<Item = &'a Job> + Clone) -> Self {
        if jobs.clone().any(|job| job.key.submission.is_none()) {
            return Self::All;
        }
        let shape = jobs
            .clone()
            .find_map(|job| tokens::shape(job.key.submission.as_deref()?));
        match shape {
            Some(Shape::Owned) => {
                // There is one, because its name is taken. Only with a key there are two names: that of the key, and the one
                // that older servers gave it, under which somebody may have created another in the same second.
                let rank = |owner: &&TaskOwner| (owner.creation_timestamp, !owner.is_named_by_key());
                return owners.iter().min_by_key(rank).map_or(Self::None, Self::Owned);
            }
            // Its name is that of the task, so there is one.
            Some(Shape::Single) => {
                let single = jobs.clone().find(is_single);
                return single.map_or(Self::None, |job| Self::Single(&job.uid));
            }
            None => {}
        }
        // Of an older server. Creation times are whole seconds. If two owners have the same one, the one with matching Jobs is not the
        // forged one.
        let owns = |owner: &TaskOwner| jobs.clone().any(|job| owner.owns(job));
        let owner = match owners {
            [] => None,
            [owner] => Some(owner),
            several => several
                .iter()
                .min_by_key(|owner| (owner.creation_timestamp, !owns(owner), &owner.uid)),
        };
        let single = jobs
            .clone()
            .filter(is_single)
            .min_by_key(|job| (job.creation_timestamp, &job.uid));
        match (owner, single) {
            (Some(owner), Some(single)) if single.creation_timestamp < owner.creation_timestamp => {
                Self::Single(&single.uid)
            }
            (Some(owner), Some(single)) if single.creation_timestamp == owner.creation_timestamp && !owns(owner) => {
                Self::Single(&single.uid)
            }
            (Some(owner), _) => Self::Owned(owner),
            (None, Some(single)) => Self::Single(&single.uid),
            (None, None) => Self::None,
        }
    }

    pub(crate) fn owner(self) -> Option<&'a TaskOwner> {
        match self {
            Self::Owned(owner) => Some(owner),
            Self::All | Self::Single(_) | Self::None => None,
        }
    }

    pub(crate) fn include(self, job: &Job) -> bool {
        match self {
            Self::All => true,
            Self::Owned(owner) => owner.owns(job),
            Self::Single(uid) => job.uid == uid,
            Self::None => false,
        }
    }
}

fn is_single(job: &&Job) -> bool {
    job.owned_by.is_none() && job.num_nodes == 1 && job.attempt == 1
}

#[cfg(test)]
mod tests;
