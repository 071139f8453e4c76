//! When a gate may be opened, so that all nodes hear of it at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::decide::Action;
use crate::cache::TaskKey;

/// How long a gate is remembered that nobody asks for any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Since when each gate could be opened.
///
/// A kubelet that has just looked at a pod hears nothing of it until it has listed all containers again: its worker waits for a
/// status that is newer than its last look (`GetNewerThan` in `pkg/kubelet/pod_workers.go` of kubernetes/kubernetes), and the
/// list is made each second. The node whose start or whose setup came last was looked at a moment ago, and the others were not.
/// Were the gate opened at once, they would go through it up to a second before that node, which can go no earlier anyway.
#[derive(Debug)]
pub struct Settling {
    period: Duration,
    since: Mutex<HashMap<Arc<TaskKey>, (Gate, Instant)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Begin,
    Run,
}

impl Settling {
    /// What is needed where a node hears of a change after at most this time.
    pub fn new(period: Duration) -> Self {
        let since = Mutex::default();
        Self { period, since }
    }

    /// How long to wait with a gate that is among these steps, and takes it out. The first question begins the time; a question without a gate
    /// forgets it, since nodes may have gone away and come again.
    pub fn hold_back(&self, key: &Arc<TaskKey>, actions: &mut Vec<Action>, now: Instant) -> Option<Duration> {
        if self.period.is_zero() {
            return None;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(gate) = actions.iter().find_map(gate) else {
            since.remove(key);
            return None;
        };
        let first = match since.get(key) {
            Some((known, first)) if *known == gate => *first,
            _ => now,
        };
        since.retain(|_, (_, first)| *first + FORGOTTEN > now);
        since.insert(Arc::clone(key), (gate, first));
        let left = (first + self.period).saturating_duration_since(now);
        if left.is_zero() {
            return None;
        }
        actions.retain(|action| self::gate(action).is_none());
        Some(left)
    }
}

fn gate(action: &Action) -> Option<Gate> {
    match action {
        Action::Begin { .. } => Some(Gate::Begin),
        Action::Run { .. } => Some(Gate::Run),
        Action::End { .. } | Action::EndOthers { .. } | Action::Remove { .. } | Action::MakeAttempt { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Action, Settling};
    use crate::cache::Job;

    const PERIOD: Duration = Duration::from_millis(1000);

    fn run() -> Vec<Action> {
        let remove = Action::Remove { jobs: Vec::new() };
        vec![Action::Run { pods: Vec::new() }, remove]
    }

    fn begin() -> Vec<Action> {
        let node_ips = String::new();
        vec![Action::Begin {
            pods: Vec::new(),
            node_ips,
        }]
    }

    #[test]
    fn a_gate_waits_for_the_last_node_to_hear_and_other_steps_do_not() {
        let (settling, key, now) = (Settling::new(PERIOD), Job::example(0, 2).key, Instant::now());
        let mut actions = run();
        assert_eq!(settling.hold_back(&key, &mut actions, now), Some(PERIOD));
        assert_eq!(actions, [Action::Remove { jobs: Vec::new() }]);
        let soon = now + PERIOD / 4;
        assert_eq!(settling.hold_back(&key, &mut run(), soon), Some(PERIOD * 3 / 4));
        let mut actions = run();
        assert_eq!(settling.hold_back(&key, &mut actions, now + PERIOD), None);
        assert_eq!(actions, run());
    }

    #[test]
    fn each_gate_waits_for_itself_and_anew_when_nodes_went_away() {
        let (settling, key, now) = (Settling::new(PERIOD), Job::example(0, 2).key, Instant::now());
        let later = now + PERIOD;
        assert!(settling.hold_back(&key, &mut begin(), now).is_some());
        assert_eq!(settling.hold_back(&key, &mut run(), later), Some(PERIOD));
        assert_eq!(settling.hold_back(&key, &mut Vec::new(), later), None);
        assert_eq!(settling.hold_back(&key, &mut run(), later + PERIOD), Some(PERIOD));
    }

    #[test]
    fn nothing_waits_where_nodes_hear_at_once() {
        let settling = Settling::new(Duration::ZERO);
        let mut actions = begin();
        assert_eq!(
            settling.hold_back(&Job::example(0, 2).key, &mut actions, Instant::now()),
            None
        );
        assert_eq!(actions, begin());
    }
}
