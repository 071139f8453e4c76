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
        let owns = |owner: &TaskOwner| jobs.clone().any(|job| owner.owns(job));
        // Creation times are whole seconds. Of two owners with the same one, that which has the name of a key is not the
        // forged one, and among those of older servers, which had other names, that with matching Jobs.
        let rank = |owner: &&'a TaskOwner| {
            let (created_at, uid) = (owner.creation_timestamp, owner.uid.as_str());
            (created_at, !owner.is_named_by_key(), !owns(owner), uid)
        };
        let owner = match owners {
            [] => None,
            [owner] => Some(owner),
            several => several.iter().min_by_key(rank),
        };
        let single = jobs
            .clone()
            .filter(is_single)
            .min_by_key(|job| (job.creation_timestamp, &job.uid));
        let shape = jobs
            .clone()
            .find_map(|job| tokens::shape(job.key.submission.as_deref()?));
        match (owner, single) {
            // The name of the one object that counts is taken, so that there is nothing to choose.
            (Some(owner), _) if shape == Some(Shape::Owned) => Self::Owned(owner),
            (_, Some(single)) if shape == Some(Shape::Single) => Self::Single(&single.uid),
            _ if shape.is_some() => Self::None,
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
