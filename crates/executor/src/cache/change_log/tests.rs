//! A client that was cut off learns what has changed since its cursor, or gets all tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use task::UserName;

use super::{Announced, ChangeCursor, ChangeLog, Changes, MAX_REMOVALS, TaskEvent};
use crate::cache::TaskKey;
use crate::cache::snapshot::TaskSnapshot;
use crate::user_key::UserKey;

const USERS: [&str; 2] = ["alice", "bob"];

/// The listed tasks, as the cache has them.
#[derive(Default)]
struct Tasks {
    log: ChangeLog,
    announced: BTreeMap<Arc<TaskKey>, Option<Announced>>,
    listed: BTreeMap<Arc<TaskKey>, Arc<TaskSnapshot>>,
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn key(id: u8, name: &str) -> Arc<TaskKey> {
    Arc::new(TaskKey {
        id: id.to_string().into(),
        user: UserKey::of(&user(name)),
        submission: Some("token".into()),
    })
}

impl Tasks {
    /// Sets the status of a task, or removes it.
    fn set(&mut self, id: u8, name: &str, status: Option<u64>) {
        let key = key(id, name);
        let snapshot = status.map(|status| Arc::new(TaskSnapshot::example(&key, name, status)));
        match &snapshot {
            Some(snapshot) => self.listed.insert(Arc::clone(&key), Arc::clone(snapshot)),
            None => self.listed.remove(&key),
        };
        let announced = self.announced.entry(Arc::clone(&key)).or_default();
        self.log.note(&key, announced, snapshot.as_ref());
    }

    fn since(&self, name: Option<&str>, since: Option<ChangeCursor>) -> Changes {
        let user = name.map(user);
        self.log
            .since(user.as_ref(), since, |key| self.listed.get(key).cloned())
    }
}

/// What a client knows: the status of each task, by user and ID.
#[derive(Default)]
struct Client {
    known: BTreeMap<(String, String), u64>,
    cursor: Option<ChangeCursor>,
}

impl Client {
    /// Applies the first `count` events, as if the connection broke behind them.
    fn apply(&mut self, changes: Changes, count: usize) {
        if changes.is_complete {
            self.known.clear();
        }
        let is_whole = count >= changes.events.len();
        for (cursor, event) in changes.events.into_iter().take(count) {
            match event {
                TaskEvent::Changed(task) => {
                    let key = (task.username.clone(), task.key.id.to_string());
                    self.known.insert(key, task.json_hash);
                }
                TaskEvent::Removed { task_id, username } => {
                    self.known.remove(&(username.to_string(), task_id.to_string()));
                }
            }
            self.cursor = Some(cursor);
        }
        if is_whole {
            self.cursor = Some(changes.cursor);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, usize, Option<u64>),
    /// The client reads this many events.
    Read(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = proptest::option::weighted(0.7, 0..3_u64);
    let step = prop_oneof![
        3 => (0..5_u8, 0..USERS.len(), status).prop_map(|(id, user, status)| Step::Set(id, user, status)),
        1 => (0..6_usize).prop_map(Step::Read),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn a_client_that_was_cut_off_anywhere_knows_what_is_listed_in_the_end(
        steps in steps(),
        name in proptest::option::of(proptest::sample::select(USERS.to_vec())),
    ) {
        let (mut tasks, mut client) = (Tasks::default(), Client::default());
        for step in steps {
            match step {
                Step::Set(id, user, status) => tasks.set(id, USERS[user], status),
                Step::Read(count) => client.apply(tasks.since(name, client.cursor), count),
            }
        }
        client.apply(tasks.since(name, client.cursor), usize::MAX);
        let listed: BTreeMap<(String, String), u64> = tasks
            .listed
            .iter()
            .filter(|(_, task)| name.is_none_or(|name| task.username == name))
            .map(|(key, task)| ((task.username.clone(), key.id.to_string()), task.json_hash))
            .collect();
        prop_assert_eq!(client.known, listed);
    }

    #[test]
    fn a_cursor_is_read_as_it_is_written(log in any::<u64>(), number in any::<u64>()) {
        let cursor = ChangeCursor { log, number };
        prop_assert_eq!(ChangeCursor::parse(&cursor.to_string()), Some(cursor));
    }

    #[test]
    fn no_text_is_a_cursor_by_accident(text in "[0-9a-f-]{0,20}") {
        let _ = ChangeCursor::parse(&text);
    }
}

#[test]
fn a_status_that_stays_the_same_is_no_change() {
    let mut tasks = Tasks::default();
    tasks.set(1, "alice", Some(1));
    let cursor = tasks.since(None, None).cursor;
    tasks.set(1, "alice", Some(1));
    tasks.set(2, "alice", None);
    let changes = tasks.since(None, Some(cursor));
    assert!(!changes.is_complete && changes.events.is_empty());
}

#[test]
fn the_cursor_of_another_server_or_a_forgotten_one_gives_all_tasks() {
    let mut tasks = Tasks::default();
    let first = tasks.since(None, None).cursor;
    tasks.set(1, "alice", Some(1));
    assert!(!tasks.since(None, Some(first)).is_complete);
    assert!(Tasks::default().since(None, Some(first)).is_complete);
    let later = ChangeCursor { number: 99, ..first };
    assert!(tasks.since(None, Some(later)).is_complete);
    for _ in 0..=MAX_REMOVALS {
        tasks.set(2, "bob", Some(1));
        tasks.set(2, "bob", None);
    }
    let changes = tasks.since(None, Some(first));
    assert!(changes.is_complete);
    assert_eq!(changes.events.len(), 1);
}
