//! Repeats an action concurrently and measures it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;

/// Times of single requests.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// The time that this many of 100 requests did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.0.iter().copied().max().unwrap_or_default()
    }
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "no process has 2^52 bytes")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Events per second.
#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
pub(crate) fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Runs an action `count` times on `concurrency` connections and returns the total time.
pub(crate) async fn repeat<C>(
    concurrency: usize,
    count: usize,
    open: impl AsyncFn() -> anyhow::Result<C>,
    act: impl AsyncFn(&mut C) -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let left = AtomicUsize::new(count);
    let mut connections = Vec::new();
    for _ in 0..concurrency {
        connections.push(open().await?);
    }
    let start = Instant::now();
    try_join_all(connections.into_iter().map(async |mut connection| {
        while left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            act(&mut connection).await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(start.elapsed())
}

/// Runs an action until the limit and returns the rate per second.
pub(crate) async fn for_a_while<C>(
    concurrency: usize,
    limit: Duration,
    open: impl AsyncFn() -> anyhow::Result<C>,
    act: impl AsyncFn(&mut C) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let done = AtomicUsize::new(0);
    let mut connections = Vec::new();
    for _ in 0..concurrency {
        connections.push(open().await?);
    }
    let start = Instant::now();
    try_join_all(connections.into_iter().map(async |mut connection| {
        while start.elapsed() < limit {
            act(&mut connection).await?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    }))
    .await?;
    Ok(rate(done.into_inner(), start.elapsed()))
}
