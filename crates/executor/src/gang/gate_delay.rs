//! Delays the opening of a gate until all kubelets will notice it at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::decide::Action;
use crate::cache::{Gate, TaskKey};

/// When to drop a gate that is no longer asked about.
const DROP_AFTER: Duration = Duration::from_secs(60);

/// Since when each gate could have been opened.
///
/// A kubelet that has just synced a pod does not act on a change of it before its next relist of all containers, which
/// happens once per second: the pod worker waits for a status that is newer than its last sync (`GetNewerThan` in
/// `pkg/kubelet/pod_workers.go` of kubernetes/kubernetes). The node that started or finished its setup last was synced
/// a moment ago; the others were not. If the gate opened immediately, they would pass it up to a second before the last
/// node.
#[derive(Debug)]
pub struct GateDelay {
    sync_delay: Duration,
    since: Mutex<HashMap<Arc<TaskKey>, (Gate, Instant)>>,
}

impl GateDelay {
    /// `sync_delay` is the longest time after which a kubelet notices a change of a pod it has just synced.
    pub fn new(sync_delay: Duration) -> Self {
        let since = Mutex::default();
        Self { sync_delay, since }
    }

    /// Removes a gate from these steps until it may open, and returns the time left. The first call with a gate starts
    /// the timer; a call without one resets it, because nodes may have gone away.
    pub fn hold_back(&self, key: &Arc<TaskKey>, actions: &mut Vec<Action>, now: Instant) -> Option<Duration> {
        if self.sync_delay.is_zero() {
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
        since.retain(|_, (_, first)| *first + DROP_AFTER > now);
        since.insert(Arc::clone(key), (gate, first));
        let left = (first + self.sync_delay).saturating_duration_since(now);
        if left.is_zero() {
            return None;
        }
        actions.retain(|action| self::gate(action).is_none());
        Some(left)
    }
}

fn gate(action: &Action) -> Option<Gate> {
    match action {
        Action::OpenStartGate { .. } => Some(Gate::Start),
        Action::OpenRunGate { .. } => Some(Gate::Run),
        Action::EndNodes { .. }
        | Action::EndLeftoverContainers { .. }
        | Action::DeleteJobs { .. }
        | Action::CreateAttempt { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Action, GateDelay};
    use crate::cache::Job;

    const PERIOD: Duration = Duration::from_millis(1000);

    fn run() -> Vec<Action> {
        let remove = Action::DeleteJobs { jobs: Vec::new() };
        vec![Action::OpenRunGate { pods: Vec::new() }, remove]
    }

    fn begin() -> Vec<Action> {
        let node_ips = String::new();
        vec![Action::OpenStartGate {
            pods: Vec::new(),
            node_ips,
        }]
    }

    #[test]
    fn a_gate_waits_for_the_last_node_to_hear_and_other_steps_do_not() {
        let (gate_delay, key, now) = (GateDelay::new(PERIOD), Job::example(0, 2).key, Instant::now());
        let mut actions = run();
        assert_eq!(gate_delay.hold_back(&key, &mut actions, now), Some(PERIOD));
        assert_eq!(actions, [Action::DeleteJobs { jobs: Vec::new() }]);
        let soon = now + PERIOD / 4;
        assert_eq!(gate_delay.hold_back(&key, &mut run(), soon), Some(PERIOD * 3 / 4));
        let mut actions = run();
        assert_eq!(gate_delay.hold_back(&key, &mut actions, now + PERIOD), None);
        assert_eq!(actions, run());
    }

    #[test]
    fn each_gate_waits_for_itself_and_anew_when_nodes_went_away() {
        let (gate_delay, key, now) = (GateDelay::new(PERIOD), Job::example(0, 2).key, Instant::now());
        let later = now + PERIOD;
        assert!(gate_delay.hold_back(&key, &mut begin(), now).is_some());
        assert_eq!(gate_delay.hold_back(&key, &mut run(), later), Some(PERIOD));
        assert_eq!(gate_delay.hold_back(&key, &mut Vec::new(), later), None);
        assert_eq!(gate_delay.hold_back(&key, &mut run(), later + PERIOD), Some(PERIOD));
    }

    #[test]
    fn nothing_waits_where_nodes_hear_at_once() {
        let gate_delay = GateDelay::new(Duration::ZERO);
        let mut actions = begin();
        assert_eq!(
            gate_delay.hold_back(&Job::example(0, 2).key, &mut actions, Instant::now()),
            None
        );
        assert_eq!(actions, begin());
    }
}
