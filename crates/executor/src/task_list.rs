//! Selects a page of a list of tasks.

use std::sync::Arc;

use archive::{HistoryCursor, matches_glob};
use task::TaskState;

use crate::cache::TaskSnapshot;
use crate::record_key::record_key;

/// Which tasks to list. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskFilter {
    /// In one of these states; in any if empty.
    pub states: Vec<TaskState>,
    /// With a name that matches this pattern, in which `*` and `?` stand for other characters.
    pub name: Option<String>,
    /// After this place in the list.
    pub cursor: Option<HistoryCursor>,
    /// The most tasks to return.
    pub limit: Option<usize>,
}

/// Tasks, oldest first.
#[derive(Debug)]
pub struct TaskList {
    /// The tasks.
    pub tasks: Vec<Arc<TaskSnapshot>>,
    /// Where the next page begins, if this is not the last one.
    pub next_cursor: Option<String>,
}

/// The tasks that match, in their order; `tasks` is sorted by the time of submission.
pub(crate) fn select(mut tasks: Vec<Arc<TaskSnapshot>>, filter: &TaskFilter) -> TaskList {
    tasks.retain(|task| filter.states.is_empty() || filter.states.contains(&task.state));
    if let Some(pattern) = &filter.name {
        tasks.retain(|task| matches_glob(pattern, &task.name));
    }
    if filter.limit.is_none() && filter.cursor.is_none() {
        let next_cursor = None;
        return TaskList { tasks, next_cursor };
    }
    // A key has no more than microseconds, so that tasks may sort otherwise by it.
    let mut keyed: Vec<(String, Arc<TaskSnapshot>)> = tasks
        .into_iter()
        .map(|task| (record_key(&task).as_str().to_owned(), task))
        .filter(|(key, _)| {
            filter
                .cursor
                .as_ref()
                .is_none_or(|cursor| key.as_str() > cursor.as_str())
        })
        .collect();
    keyed.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    let limit = filter.limit.unwrap_or(usize::MAX);
    let has_more = keyed.len() > limit;
    keyed.truncate(limit);
    TaskList {
        next_cursor: keyed.last().filter(|_| has_more).map(|(key, _)| key.clone()),
        tasks: keyed.into_iter().map(|(_, task)| task).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use archive::HistoryCursor;
    use jiff::Timestamp;
    use task::{TaskState, UserName};

    use super::{TaskFilter, select};
    use crate::cache::{TaskKey, TaskSnapshot};
    use crate::user_key::UserKey;

    fn task(id: u32, name: &str, state: TaskState) -> Arc<TaskSnapshot> {
        let key = Arc::new(TaskKey {
            id: format!("{id:08}").into(),
            user: UserKey::of(&UserName::parse("alice").unwrap()),
            submission: Some("token".into()),
        });
        let mut task = TaskSnapshot::example(&key, "alice", 0);
        task.name = name.to_owned();
        task.state = state;
        // Several in the same microsecond.
        task.created_at = Timestamp::from_nanosecond(i128::from(id) * 300).unwrap();
        Arc::new(task)
    }

    #[test]
    fn pages_have_each_task_once_and_in_order() {
        let all: Vec<_> = (0..10).map(|id| task(id, "train", TaskState::Running)).collect();
        for limit in 1..12 {
            let (mut ids, mut cursor) = (Vec::new(), None);
            loop {
                let filter = TaskFilter {
                    limit: Some(limit),
                    cursor: cursor.as_deref().map(|cursor| HistoryCursor::parse(cursor).unwrap()),
                    ..TaskFilter::default()
                };
                let page = select(all.clone(), &filter);
                assert!(page.tasks.len() <= limit);
                ids.extend(page.tasks.iter().map(|task| task.key.id.parse::<usize>().unwrap()));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(ids, Vec::from_iter(0..10), "{limit}");
        }
    }

    #[test]
    fn a_filter_leaves_out_what_does_not_match() {
        let all = vec![
            task(0, "train-1", TaskState::Running),
            task(1, "train-2", TaskState::Failed),
            task(2, "eval", TaskState::Failed),
        ];
        let names = |states: &[TaskState], name: Option<&str>| {
            let filter = TaskFilter {
                states: states.to_vec(),
                name: name.map(str::to_owned),
                ..TaskFilter::default()
            };
            let page = select(all.clone(), &filter);
            page.tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[], None).len(), 3);
        assert_eq!(names(&[TaskState::Failed], None), ["train-2", "eval"]);
        assert_eq!(names(&[TaskState::Failed], Some("train*")), ["train-2"]);
    }
}
