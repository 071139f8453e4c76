//! What happened in one simulation, in order, and which promises were broken.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The events of one simulation.
pub struct Timeline {
    start: Instant,
    lines: Mutex<Vec<(Duration, String)>>,
    violations: Mutex<Vec<Violation>>,
    attention: Attention,
}

/// What is done with what happens. Of thousands of simulations nobody reads it, and those of interest can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// Nothing.
    None,
    /// It is kept.
    Kept,
    /// It is kept, and printed at once.
    Told,
}

/// A promise that was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub promise: &'static str,
    /// How.
    pub how: String,
}

impl Timeline {
    /// Begins now.
    pub fn new(attention: Attention) -> Self {
        Self {
            start: Instant::now(),
            lines: Mutex::default(),
            violations: Mutex::default(),
            attention,
        }
    }

    /// How long the simulation has gone on.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether anybody wants to know what happens.
    pub fn is_kept(&self) -> bool {
        self.attention != Attention::None
    }

    /// Notes something.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if !self.is_kept() {
            return;
        }
        let (at, line) = (self.elapsed(), line());
        if self.attention == Attention::Told {
            println!("{}", shown(at, &line));
        }
        lock(&self.lines).push((at, line));
    }

    /// Notes that a promise was broken. The same words are noted once.
    pub fn violated(&self, promise: &'static str, how: String) {
        let mut violations = lock(&self.violations);
        if violations
            .iter()
            .any(|known| known.promise == promise && known.how == how)
        {
            return;
        }
        self.tell(|| format!("BROKEN: {promise}: {how}"));
        violations.push(Violation { promise, how });
    }

    /// The promises that were broken so far.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    /// All lines.
    pub fn text(&self) -> String {
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
