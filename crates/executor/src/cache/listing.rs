//! Decides which of the tasks that claim the same ID are listed.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use task::UserName;

use super::identity::TaskKey;
use super::task::Task;
use crate::tokens;
use crate::user_key::UserKey;

/// Which of the tasks with the same ID are listed, and under which creation time: for each user the one that was
/// created first, and a Python task only if none of ours has the ID. Without this, anybody who may create Jobs could
/// shadow another user's task by copying its ID.
pub(super) fn choose_listed(mut claims: Vec<(&Arc<TaskKey>, &Task)>) -> Vec<(Arc<TaskKey>, Option<Timestamp>)> {
    let time = |task: &Task| task.snapshot.as_ref().map(|snapshot| snapshot.created_at);
    if let [(key, task)] = claims.as_slice() {
        return vec![(Arc::clone(key), time(task))];
    }
    // A token that the ID derives from comes first: nobody else has one. If two others were created in the same second, the
    // one that is already listed stays.
    claims.sort_by_key(|(key, task)| {
        let creation_timestamp = task.snapshot.as_ref().map(|snapshot| snapshot.creation_timestamp);
        let has_own_id = key.submission.as_deref().is_some_and(tokens::has_own_id);
        (
            key.submission.is_none(),
            !has_own_id,
            creation_timestamp,
            task.listed.is_none(),
        )
    });
    let mut taken: HashSet<UserKey> = HashSet::new();
    let mut all = Vec::with_capacity(claims.len());
    for (key, task) in claims {
        let listed = time(task).filter(|_| !taken.contains(&key.user));
        if let Some(snapshot) = task.snapshot.as_ref().filter(|_| listed.is_some()) {
            taken.insert(key.user.clone());
            let user = UserName::parse(&snapshot.username);
            taken.extend(user.ok().map(|user| UserKey::of_python(&user)));
        }
        all.push((Arc::clone(key), listed));
    }
    all
}
