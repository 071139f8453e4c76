//! The watches that fill the cache.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::Health;
use super::kept::Kept;
use super::object::{Job, Pod, TaskOwner, Volume, Warning};
use super::state::{Listed, State};
use super::store::Cache;
use crate::kubernetes::{Calls, Resource};
use crate::labels;

/// How long one watch request lasts. It is also how long a connection that has silently died goes unnoticed.
const WATCH_SECONDS: u32 = 30;

/// How many objects a list brings at once: a page is decoded whole, and 100 Jobs are about half a megabyte.
const PAGE: u32 = 100;

/// How many events are applied under one lock, when that many have arrived.
const BATCH: usize = 128;

/// The pauses after a failed watch: short, because all answers wait for it, and few enough not to burden a cluster.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How often the API server is asked whether it answers, and how long it may take.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Warnings that say why a pod does not come to run. Others are about what its own status already says.
const WARNINGS: &str =
    "type=Warning,reason!=Unhealthy,reason!=BackOff,reason!=FailedScheduling,reason!=BackoffLimitExceeded";

/// Starts the watches and the probe; they end with `stop`.
pub fn watch(calls: &Calls, cache: &Arc<Cache>, health: &Arc<Health>, stop: &CancellationToken, tracker: &TaskTracker) {
    let watcher = Watcher {
        calls: calls.clone(),
        cache: Arc::clone(cache),
        health: Arc::clone(health),
        stop: stop.clone(),
    };
    let labelled = |selector: &str| watcher::Config::default().labels(selector);
    tracker.spawn(watcher.clone().keep::<Job>(0, labelled(labels::TASK_SELECTOR)));
    tracker.spawn(watcher.clone().keep::<Pod>(1, labelled(labels::TASK_SELECTOR)));
    tracker.spawn(watcher.clone().keep::<Volume>(2, labelled(labels::VOLUME_SELECTOR)));
    tracker.spawn(
        watcher
            .clone()
            .keep::<Warning>(3, watcher::Config::default().fields(WARNINGS)),
    );
    tracker.spawn(watcher.clone().keep::<TaskOwner>(4, labelled(labels::TASK_SELECTOR)));
    tracker.spawn(watcher.probe());
}

#[derive(Clone)]
struct Watcher {
    calls: Calls,
    cache: Arc<Cache>,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl Watcher {
    /// Keeps one kind of object in the cache until the process stops.
    async fn keep<K>(self, kind: usize, config: watcher::Config)
    where
        K: Kept,
        K::Resource: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send,
        <K::Resource as Resource>::DynamicType: Default + Clone,
    {
        let config = config.timeout(WATCH_SECONDS).page_size(PAGE);
        let mut events = watcher::watcher(self.calls.api::<K::Resource>(), config)
            .backoff(Pauses::default())
            .ready_chunks(BATCH)
            .take_until(self.stop.clone().cancelled_owned())
            .boxed();
        let mut list = List::default();
        while let Some(batch) = events.next().await {
            let mut seen = Vec::with_capacity(batch.len());
            for event in batch {
                match event {
                    Ok(event) => seen.push(event),
                    Err(error) => self.report(kind, &error),
                }
            }
            if seen.is_empty() {
                continue;
            }
            metrics::counter!("k8s_cli_watch_events_total").increment(seen.len() as u64);
            let listed = seen.iter().any(|event| matches!(event, Event::InitDone));
            self.cache.apply(|state| {
                for event in seen {
                    list.apply::<K>(event, state);
                }
            });
            if listed {
                self.health.listed(kind);
            } else {
                self.health.watched(kind);
            }
        }
    }

    fn report(&self, kind: usize, error: &watcher::Error) {
        let gone = matches!(error, watcher::Error::WatchError(status) if status.code == 410);
        // The history that the watch asked for is over: it lists again, which is no fault.
        if !gone {
            tracing::debug!(error = error as &dyn std::error::Error, kind, "a watch failed");
            self.health.failed(kind, explain(error));
        }
    }

    /// Asks the API server regularly whether it answers: a watch on which nothing happens does not tell.
    async fn probe(self) {
        let mut ticks = tokio::time::interval(PROBE_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reachable = true;
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let answer = self.calls.probe(PROBE_TIMEOUT).await;
            match (&answer, reachable) {
                (Err(error), true) => tracing::warn!(error = %error, "the Kubernetes API is not reachable"),
                (Ok(_), false) => tracing::info!("the Kubernetes API is reachable again"),
                _ => {}
            }
            reachable = answer.is_ok();
            self.health.probed(answer.map(drop).map_err(|error| error.to_string()));
        }
    }
}

/// The uids of a list that is arriving.
#[derive(Default)]
struct List {
    started: Option<Instant>,
    uids: HashSet<String>,
}

impl List {
    fn apply<K: Kept>(&mut self, event: Event<K::Resource>, state: &mut State) {
        match event {
            Event::Init => {
                self.started = Some(Instant::now());
                self.uids.clear();
            }
            Event::InitApply(resource) => {
                if let Some(object) = K::from_resource(resource) {
                    self.uids.insert(object.uid().to_owned());
                    object.put(state);
                }
            }
            Event::InitDone => {
                let listed = Listed {
                    uids: &std::mem::take(&mut self.uids),
                    started: self.started.take().unwrap_or_else(Instant::now),
                };
                K::retain(state, &listed);
            }
            Event::Apply(resource) => {
                if let Some(object) = K::from_resource(resource) {
                    object.put(state);
                }
            }
            Event::Delete(resource) => {
                if let Some(object) = K::from_resource(resource) {
                    object.remove(state);
                }
            }
        }
    }
}

/// Doubling pauses.
#[derive(Default)]
struct Pauses {
    tries: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.tries));
        self.tries += 1;
        Some(pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The last cause: the outer ones only say that it was a watch.
fn explain(error: &watcher::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
