//! Prometheus metrics.

use std::time::Duration;

use anyhow::Context;
use executor::Executor;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio_util::sync::CancellationToken;

/// Bucket bounds in seconds, from a response served from memory to a call that times out.
const SECONDS_BUCKETS: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How often recorded values are moved into their buckets. Without upkeep, they accumulate in memory until the next
/// scrape (metrics-rs/metrics#467).
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The source of `/metrics`.
pub struct Metrics {
    handle: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Installs the metrics recorder. The recorder is global, so a second call in the same process fails.
    pub fn install(stopping: &CancellationToken) -> anyhow::Result<Self> {
        let handle = PrometheusBuilder::new()
            .set_buckets(SECONDS_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .context("cannot install the metrics recorder")?;
        describe_metrics();
        let process = Collector::default();
        process.describe();
        let (upkeep, stopping) = (handle.clone(), stopping.clone());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
            while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
                upkeep.run_upkeep();
            }
        });
        Ok(Self { handle, process })
    }

    /// Metrics whose recorder is not installed, because a process can install only one.
    #[cfg(test)]
    pub fn detached() -> Self {
        Self {
            handle: PrometheusBuilder::new().build_recorder().handle(),
            process: Collector::default(),
        }
    }

    /// The metrics in Prometheus' text format.
    #[expect(clippy::cast_precision_loss, reason = "no cache holds 2^52 objects")]
    pub fn render(&self, executor: &Executor) -> String {
        self.process.collect();
        let counts = executor.counts();
        metrics::gauge!("k8s_cli_cache_objects", "kind" => "task").set(counts.tasks as f64);
        metrics::gauge!("k8s_cli_cache_objects", "kind" => "pod").set(counts.pods as f64);
        metrics::gauge!("k8s_cli_cache_objects", "kind" => "volume").set(counts.volumes as f64);
        metrics::gauge!("k8s_cli_cache_in_sync").set(if executor.check_in_sync().is_ok() { 1.0 } else { 0.0 });
        if let Some(age) = executor.cache_age() {
            metrics::gauge!("k8s_cli_cache_age_seconds").set(age.as_secs_f64());
        }
        if let Some(backlog) = executor.archive_backlog() {
            metrics::gauge!("k8s_cli_archive_full").set(if backlog.is_full { 1.0 } else { 0.0 });
            metrics::gauge!("k8s_cli_archive_waiting_logs").set(backlog.waiting_logs as f64);
            metrics::gauge!("k8s_cli_archive_lag_seconds").set(backlog.lag.as_secs_f64());
        }
        self.handle.render()
    }
}

fn describe_metrics() {
    describe_counter!(
        "k8s_cli_http_requests_total",
        "Number of HTTP requests, by route, method, and status."
    );
    describe_histogram!(
        "k8s_cli_http_request_seconds",
        Unit::Seconds,
        "Time until the response headers are sent, by route."
    );
    describe_histogram!(
        "k8s_cli_submit_seconds",
        Unit::Seconds,
        "Time to submit a task, excluding request parsing."
    );
    describe_histogram!(
        "k8s_cli_kubernetes_call_seconds",
        Unit::Seconds,
        "Duration of calls to the Kubernetes API."
    );
    describe_histogram!(
        "k8s_cli_watch_latency_seconds",
        Unit::Seconds,
        "Time from the response to a create call until the watch delivers the object."
    );
    describe_counter!(
        "k8s_cli_watch_events_total",
        "Number of events received from all watches."
    );
    describe_gauge!("k8s_cli_cache_objects", "Number of objects in the cache, by kind.");
    describe_gauge!(
        "k8s_cli_cache_in_sync",
        "1 if the cache is in sync with the cluster, 0 otherwise."
    );
    describe_gauge!(
        "k8s_cli_cache_age_seconds",
        Unit::Seconds,
        "Time since the last watch event."
    );
    describe_gauge!(
        "k8s_cli_archive_full",
        "1 if the archive has no room for anybody's logs, 0 otherwise."
    );
    describe_gauge!(
        "k8s_cli_archive_waiting_logs",
        "Number of logs that wait for room in the archive."
    );
    describe_gauge!(
        "k8s_cli_archive_lag_seconds",
        Unit::Seconds,
        "How long the oldest lines that were read have been waiting to be archived."
    );
    describe_gauge!("k8s_cli_http_connections", "Number of open HTTP connections.");
    describe_counter!(
        "k8s_cli_http_connections_refused_total",
        "Number of connections refused because of a connection limit."
    );
    describe_gauge!("k8s_cli_log_followers", "Number of open client log streams.");
    describe_gauge!(
        "k8s_cli_log_streams",
        "Number of open log streams to the Kubernetes API; clients that follow the same log share one."
    );
}
