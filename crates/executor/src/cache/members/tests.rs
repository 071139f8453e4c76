//! How forged objects in the namespace are distinguished from those of a task.

use std::sync::Arc;

use jiff::Timestamp;

use super::Members;
use crate::cache::{Job, Stage, TaskKey, TaskOwner, Turn};

fn key() -> Arc<TaskKey> {
    Arc::new(TaskKey {
        submission: Some("token".into()),
        ..TaskKey::clone(&Job::example(0, 1).key)
    })
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn owner(uid: &str) -> TaskOwner {
    TaskOwner {
        uid: uid.to_owned(),
        key: key(),
        creation_timestamp: at(100),
        ..TaskOwner::example()
    }
}

fn owned(uid: &str, attempt: u32) -> Job {
    Job {
        uid: uid.to_owned(),
        key: key(),
        owned_by: Some("owner".to_owned()),
        attempt,
        creation_timestamp: at(101),
        ..Job::example(0, 2)
    }
}

fn included(owner: Option<&TaskOwner>, jobs: &[Job]) -> Vec<String> {
    let owners: Vec<TaskOwner> = owner.into_iter().cloned().collect();
    let members = Members::of(&owners, jobs.iter());
    jobs.iter()
        .filter(|job| members.include(job))
        .map(|job| job.uid.clone())
        .collect()
}

#[test]
fn the_jobs_of_an_owner_are_those_that_it_owns() {
    let stranger = Job {
        owned_by: Some("other".to_owned()),
        ..owned("stranger", 1)
    };
    let without = Job {
        owned_by: None,
        ..owned("without", 1)
    };
    assert_eq!(
        included(Some(&owner("owner")), &[owned("ours", 1), stranger, without]),
        ["ours"]
    );
}

#[test]
fn a_job_of_an_attempt_that_was_not_begun_is_none() {
    let jobs = [owned("ours", 1), owned("twelve", 12)];
    assert_eq!(included(Some(&owner("owner")), &jobs), ["ours"]);
    let begun = TaskOwner {
        turn: Some(Turn {
            attempt: 12,
            stage: Stage::Waiting,
        }),
        ..owner("owner")
    };
    assert_eq!(included(Some(&begun), &jobs), ["ours", "twelve"]);
}

#[test]
fn a_later_config_map_does_not_hide_a_single_job() {
    let single = Job {
        owned_by: None,
        creation_timestamp: at(99),
        ..Job {
            key: key(),
            ..Job::example(0, 1)
        }
    };
    assert_eq!(
        included(Some(&owner("copy")), std::slice::from_ref(&single)),
        [single.uid.as_str()]
    );
    assert_eq!(included(None, std::slice::from_ref(&single)), [single.uid.as_str()]);
    let copy = Job {
        uid: "copy".to_owned(),
        creation_timestamp: at(100),
        ..single.clone()
    };
    assert_eq!(included(None, &[copy, single.clone()]), [single.uid]);
}

#[test]
fn what_was_made_in_the_same_second_to_look_like_it_owns_nothing() {
    let single = Job {
        owned_by: None,
        creation_timestamp: at(100),
        key: key(),
        ..Job::example(0, 1)
    };
    assert_eq!(
        included(Some(&owner("copy")), std::slice::from_ref(&single)),
        [single.uid.as_str()]
    );
    let owners = [owner("a-copy"), owner("owner")];
    let jobs = [owned("ours", 1)];
    assert_eq!(Members::of(&owners, jobs.iter()).owner().unwrap().uid, "owner");
}

#[test]
fn without_their_owner_the_jobs_of_several_nodes_are_no_task() {
    assert_eq!(included(None, &[owned("a", 1)]), Vec::<String>::new());
}

#[test]
fn all_jobs_of_the_python_implementation_under_one_identifier_are_one_task() {
    let jobs = [Job::example(0, 2), Job::example(1, 2)];
    assert_eq!(included(None, &jobs).len(), 2);
}
