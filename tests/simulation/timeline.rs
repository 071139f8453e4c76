//! The events of one simulation, in order, and its violations of invariants.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The events of one simulation.
pub(crate) struct Timeline {
    start: Instant,
    lines: Mutex<Vec<(Duration, String)>>,
    violations: Mutex<Vec<Violation>>,
    recording: Recording,
}

/// What happens to events. Most simulations don't record them, because a seed can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recording {
    /// They are dropped.
    Off,
    /// They are kept.
    Kept,
    /// They are kept and printed.
    Printed,
}

/// A violation of an invariant.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// A description of the violation.
    pub how: String,
}

impl Timeline {
    /// Starts a timeline.
    pub(crate) fn new(recording: Recording) -> Self {
        Self {
            start: Instant::now(),
            lines: Mutex::default(),
            violations: Mutex::default(),
            recording,
        }
    }

    /// Simulated time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether events are recorded.
    pub(crate) fn is_kept(&self) -> bool {
        self.recording != Recording::Off
    }

    /// Adds an event.
    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        if !self.is_kept() {
            return;
        }
        let (at, line) = (self.elapsed(), line());
        if self.recording == Recording::Printed {
            println!("{}", shown(at, &line));
        }
        lock(&self.lines).push((at, line));
    }

    /// Adds a violation, unless the same one was added before.
    pub(crate) fn violated(&self, invariant: &'static str, how: String) {
        let mut violations = lock(&self.violations);
        if violations
            .iter()
            .any(|known| known.invariant == invariant && known.how == how)
        {
            return;
        }
        self.log(|| format!("VIOLATION: {invariant}: {how}"));
        violations.push(Violation { invariant, how });
    }

    /// The violations so far.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    /// All events as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (at, line) in lock(&self.lines).iter() {
            // Writing to a string never fails.
            let _ = writeln!(text, "{}", shown(*at, line));
        }
        text
    }
}

fn shown(at: Duration, line: &str) -> String {
    format!("{:>9.3}  {line}", at.as_secs_f64())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
