//! The progress of an upload or a download on a terminal: nothing if it is quick, and a bar on standard error if it is not.

use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use escape::escape_controls;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes less than this is not worth a bar that flashes up.
const QUIET_TIME: Duration = Duration::from_millis(300);

/// How often the bar is drawn although nothing has been done.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

const WITH_TOTAL: &str = "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";

/// A bar for one thing after another.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    is_shown: Arc<AtomicBool>,
    is_enabled: bool,
}

impl Progress {
    /// A bar that is not visible yet, and never will be if it is not enabled or standard error is not a terminal.
    pub(crate) fn new(is_enabled: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        // The template is constant, so it is valid; without it, the bar only looks different.
        if let Ok(style) = ProgressStyle::with_template(WITH_TOTAL) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar,
            started: Instant::now(),
            is_shown: Arc::default(),
            is_enabled: is_enabled && std::io::stderr().is_terminal(),
        }
    }

    /// Begins with something that has this many bytes, if that is known.
    pub(crate) fn start(&self, what: &str, total: Option<u64>) {
        self.bar.reset();
        self.bar.set_message(escape_controls(what));
        self.bar.set_length(total.unwrap_or(0));
    }

    pub(crate) fn set_total(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    pub(crate) fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// More bytes are done; fewer, if some must be done again.
    pub(crate) fn advance(&self, bytes: i64) {
        if bytes < 0 {
            self.bar.dec(bytes.unsigned_abs());
        } else {
            self.bar.inc(bytes.unsigned_abs());
        }
    }

    /// Waits for something, and keeps the bar alive meanwhile.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                _ = redraw.tick() => self.draw(),
            }
        }
    }

    fn draw(&self) {
        if !self.is_enabled || self.started.elapsed() < QUIET_TIME {
            return;
        }
        if !self.is_shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.tick();
    }

    /// Prints something else in the place of the bar.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Removes the bar. It can begin with something else.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
