//! The pauses before steps that must not be taken as soon as they are possible.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::decide::Action;
use crate::backoff::doubled;
use crate::cache::{Gate, TaskKey};

/// The pause before the third attempt, and the longest one.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// When the next attempt of each task may start, and when its next gate may open.
#[derive(Debug)]
pub(crate) struct StepTimers {
    attempts: Timer<u32>,
    gates: Timer<Gate>,
    sync_delay: Duration,
}

impl StepTimers {
    /// `sync_delay` is the longest time after which a kubelet notices a change of a pod it has just synced.
    pub(crate) fn new(sync_delay: Duration) -> Self {
        Self {
            attempts: Timer::default(),
            gates: Timer::default(),
            sync_delay,
        }
    }

    /// How long the task still has to wait before this attempt, or `None` if it can start: a task that fails
    /// immediately must not retry in a tight loop. The first call starts the pause.
    pub(crate) fn before_attempt(&self, key: &Arc<TaskKey>, attempt: u32, now: Instant) -> Option<Duration> {
        self.attempts.left(key, attempt, pause_before(attempt), now)
    }

    /// Removes a gate from these steps until all kubelets will notice its opening at the same time, and returns the
    /// time left. The first call with a gate starts the timer; a call without one resets it, because nodes may have
    /// gone away.
    ///
    /// A kubelet that has just synced a pod does not act on a change of it before its next relist of all containers,
    /// which happens once per second: the pod worker waits for a status that is newer than its last sync
    /// (`GetNewerThan` in `pkg/kubelet/pod_workers.go` of kubernetes/kubernetes). The node that started or finished its
    /// setup last was synced a moment ago; the others were not. If the gate opened immediately, they would pass it up
    /// to a second before the last node.
    pub(crate) fn hold_back_gate(
        &self,
        key: &Arc<TaskKey>,
        actions: &mut Vec<Action>,
        now: Instant,
    ) -> Option<Duration> {
        let Some(gate) = actions.iter().find_map(Action::gate) else {
            self.gates.reset(key);
            return None;
        };
        let left = self.gates.left(key, gate, self.sync_delay, now)?;
        actions.retain(Action::is_final);
        Some(left)
    }
}

/// When the next step of each task is due.
#[derive(Debug)]
struct Timer<Step>(Mutex<HashMap<Arc<TaskKey>, (Step, Instant)>>);

impl<Step> Default for Timer<Step> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<Step: Copy + PartialEq> Timer<Step> {
    /// How long the task still has to wait for this step. The first call for a step starts its pause.
    fn left(&self, key: &Arc<TaskKey>, step: Step, pause: Duration, now: Instant) -> Option<Duration> {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match due.get(key) {
            Some((known, at)) if *known == step => *at,
            _ => now + pause,
        };
        // Nobody asks again about tasks that were stopped, so drop their entries.
        due.retain(|_, (_, at)| *at + LONGEST > now);
        // Keep an elapsed pause: retrying a failed step must not wait again.
        due.insert(Arc::clone(key), (step, at));
        (at > now).then(|| at - now)
    }

    fn reset(&self, key: &TaskKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// No pause before the second attempt, one second before the third, then twice as long each time.
fn pause_before(attempt: u32) -> Duration {
    match attempt.checked_sub(3) {
        None => Duration::ZERO,
        Some(doublings) => doubled(FIRST, doublings, LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Action, StepTimers};
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
        let (timers, key, now) = (StepTimers::new(PERIOD), Job::example(0, 2).key, Instant::now());
        let mut actions = run();
        assert_eq!(timers.hold_back_gate(&key, &mut actions, now), Some(PERIOD));
        assert_eq!(actions, [Action::DeleteJobs { jobs: Vec::new() }]);
        let soon = now + PERIOD / 4;
        assert_eq!(timers.hold_back_gate(&key, &mut run(), soon), Some(PERIOD * 3 / 4));
        let mut actions = run();
        assert_eq!(timers.hold_back_gate(&key, &mut actions, now + PERIOD), None);
        assert_eq!(actions, run());
    }

    #[test]
    fn each_gate_waits_for_itself_and_anew_when_nodes_went_away() {
        let (timers, key, now) = (StepTimers::new(PERIOD), Job::example(0, 2).key, Instant::now());
        let later = now + PERIOD;
        assert!(timers.hold_back_gate(&key, &mut begin(), now).is_some());
        assert_eq!(timers.hold_back_gate(&key, &mut run(), later), Some(PERIOD));
        assert_eq!(timers.hold_back_gate(&key, &mut Vec::new(), later), None);
        assert_eq!(timers.hold_back_gate(&key, &mut run(), later + PERIOD), Some(PERIOD));
    }

    #[test]
    fn nothing_waits_where_nodes_hear_at_once() {
        let timers = StepTimers::new(Duration::ZERO);
        let mut actions = begin();
        assert_eq!(
            timers.hold_back_gate(&Job::example(0, 2).key, &mut actions, Instant::now()),
            None
        );
        assert_eq!(actions, begin());
    }

    #[test]
    fn each_attempt_waits_twice_as_long_as_the_one_before() {
        let (timers, now) = (StepTimers::new(Duration::ZERO), Instant::now());
        let seconds = |attempt| {
            timers
                .before_attempt(&Job::example(0, 1).key, attempt, now)
                .map_or(0, |left| left.as_secs())
        };
        let waits: Vec<u64> = [2, 3, 4, 5, 12, 1000].into_iter().map(seconds).collect();
        assert_eq!(waits, [0, 1, 2, 4, 300, 300]);
    }

    #[test]
    fn a_pause_ends() {
        let (timers, now) = (StepTimers::new(Duration::ZERO), Instant::now());
        assert!(timers.before_attempt(&Job::example(0, 1).key, 3, now).is_some());
        assert_eq!(
            timers.before_attempt(&Job::example(0, 1).key, 3, now + Duration::from_millis(400)),
            Some(Duration::from_millis(600))
        );
        assert_eq!(
            timers.before_attempt(&Job::example(0, 1).key, 3, now + Duration::from_secs(1)),
            None
        );
    }
}
