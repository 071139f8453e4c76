//! Fills the cache with lists and watches.
//!
//! Each kind is listed once and then watched, with requests of a few seconds each. `kube::runtime::watcher` does the
//! same, but hides bookmarks and the end of a response, which prove that nothing was missed (see `health`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::core::WatchEvent;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cached_resource::CachedResource;
use super::health::Health;
use super::job::Job;
use super::load_balancers::LoadBalancer;
use super::object::{Pod, TaskOwner, Volume, Warning};
use super::state::{CacheState, ListedUids};
use super::store::Cache;
use crate::backoff::Backoff;
use crate::error::{describe_kube_error, is_expired};
use crate::kubernetes::{ApiClient, BodyEnd, ListParams, Resource, ResourceExt, WatchParams};
use crate::log_throttle::LogThrottle;
use crate::settings::PortExposure;

/// How long one watch request lasts. The kube-apiserver ends the response after this time, and everything it has sent
/// precedes the end, so the end proves that nothing was missed. Bookmarks would prove it earlier, but are not
/// guaranteed: a kube-apiserver sends none for a kind that has not changed since it started
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks>).
const WATCH_SECONDS: u32 = 3;
const WATCH: Duration = Duration::from_secs(WATCH_SECONDS as u64);

/// How long a watch may be silent: its own duration, plus time for a slow network.
const SILENCE: Duration = WATCH.saturating_add(Duration::from_secs(5));

/// The time limit for one page of a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// The page size of a list. A page is decoded at once, and 100 Jobs are about half a megabyte.
const PAGE: u32 = 100;

/// How many buffered events are applied under one lock.
const BATCH: usize = 128;

/// The pauses after a failed list or watch: short, because the cache gets out of date meanwhile, but not so short that
/// they burden the kube-apiserver.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Starts the watches, which run until `stop`. Services are watched only if load balancers give them addresses.
pub(crate) fn spawn_watches(
    client: &ApiClient,
    cache: &Arc<Cache>,
    health: &Arc<Health>,
    ports: &PortExposure,
    (stop, tracker): (&CancellationToken, &TaskTracker),
) {
    let watcher = Watcher {
        client: client.clone(),
        cache: Arc::clone(cache),
        health: Arc::clone(health),
        ignored: Arc::default(),
    };
    let spawn = |watch| {
        let stop = stop.clone();
        tracker.spawn(async move { stop.run_until_cancelled(watch).await });
    };
    spawn(watcher.clone().run::<Job>().boxed());
    spawn(watcher.clone().run::<Pod>().boxed());
    spawn(watcher.clone().run::<Volume>().boxed());
    spawn(watcher.clone().run::<TaskOwner>().boxed());
    if *ports == PortExposure::LoadBalancer {
        spawn(watcher.clone().run::<LoadBalancer>().boxed());
    }
    spawn(watcher.run::<Warning>().boxed());
}

#[derive(Clone)]
struct Watcher {
    client: ApiClient,
    cache: Arc<Cache>,
    health: Arc<Health>,
    ignored: Arc<LogThrottle>,
}

/// Why a watch ended early.
enum WatchError {
    /// The requested version is too old (410 Gone). The kind must be listed again, which is not a failure.
    Expired,
    Failed(String),
}

impl Watcher {
    /// Keeps one kind of object up to date, forever.
    async fn run<K: CachedResource>(self) {
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut version = None;
        loop {
            let outcome = match &mut version {
                None => self.list::<K>().await.map(|listed| version = Some(listed)),
                Some(version) => self.watch_once::<K>(version).await,
            };
            match outcome {
                Ok(()) => pauses.reset(),
                Err(WatchError::Expired) => {
                    version = None;
                    sleep(pauses.next()).await;
                }
                Err(WatchError::Failed(why)) => {
                    tracing::debug!(kind = ?K::STATE_KIND, why, "list or watch failed");
                    if let Some(kind) = K::STATE_KIND {
                        self.health.record_failure(kind, why);
                    }
                    sleep(pauses.next()).await;
                }
            }
        }
    }

    /// Lists all objects page by page, removes the others, and returns the version from which to watch.
    async fn list<K: CachedResource>(&self) -> Result<String, WatchError> {
        let api = self.client.namespaced::<K::Resource>();
        let started = Instant::now();
        let mut uids = HashSet::new();
        let mut params = ListParams {
            label_selector: K::SELECTION.labels.map(str::to_owned),
            field_selector: K::SELECTION.fields.map(str::to_owned),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let page = timeout(LIST_TIMEOUT, api.list(&params))
                .await
                .map_err(|_| WatchError::Failed("a list timed out".to_owned()))?
                .map_err(|error| self.watch_error(&error))?;
            uids.extend(page.items.iter().filter_map(|resource| resource.meta().uid.clone()));
            self.apply(page.items.len(), |watcher, state| {
                for resource in page.items {
                    watcher.apply_object::<K>(resource, state);
                }
            });
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let listed = ListedUids { uids: &uids, started };
                self.apply(0, |_, state| K::retain(state, &listed));
                self.record_seen::<K>(started);
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Runs one watch request. `version` advances with every event, so that the next request continues there even after
    /// a failure.
    async fn watch_once<K: CachedResource>(&self, version: &mut String) -> Result<(), WatchError> {
        let api = self.client.namespaced::<K::Resource>();
        let params = WatchParams {
            label_selector: K::SELECTION.labels.map(str::to_owned),
            field_selector: K::SELECTION.fields.map(str::to_owned),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let silent = || WatchError::Failed("a watch timed out".to_owned());
        let asked = Instant::now();
        let ending = BodyEnd::default();
        let opening = ending.track(api.watch(&params, version));
        let events = timeout(SILENCE, opening).await.map_err(|_| silent())?;
        let events = events.map_err(|error| self.watch_error(&error))?;
        let mut events = events.ready_chunks(BATCH).boxed();
        while let Some(batch) = timeout(SILENCE, events.next()).await.map_err(|_| silent())? {
            let mut result = Ok(());
            let mut bookmarked = false;
            self.apply(batch.len(), |watcher, state| {
                for event in batch {
                    match event {
                        Ok(WatchEvent::Added(resource) | WatchEvent::Modified(resource)) => {
                            *version = resource.resource_version().unwrap_or_default();
                            watcher.apply_object::<K>(resource, state);
                        }
                        Ok(WatchEvent::Deleted(resource)) => {
                            *version = resource.resource_version().unwrap_or_default();
                            K::remove(resource.meta().uid.as_deref().unwrap_or_default(), state);
                        }
                        Ok(WatchEvent::Bookmark(bookmark)) => {
                            *version = bookmark.metadata.resource_version;
                            bookmarked = true;
                        }
                        Ok(WatchEvent::Error(status)) => result = Err(self.watch_error(&kube::Error::Api(status))),
                        Err(error) => result = Err(self.watch_error(&error)),
                    }
                }
            });
            if bookmarked {
                self.record_seen::<K>(asked);
            }
            result?;
        }
        // `kube` does not distinguish a broken connection from the end of the response.
        if !ending.is_complete() || asked.elapsed() < WATCH {
            return Err(WatchError::Failed("a watch connection broke".to_owned()));
        }
        self.record_seen::<K>(asked + WATCH);
        Ok(())
    }

    fn watch_error(&self, error: &kube::Error) -> WatchError {
        self.client.report_denial(error);
        if is_expired(error) {
            WatchError::Expired
        } else {
            WatchError::Failed(describe_kube_error(error))
        }
    }

    fn apply(&self, events: usize, change: impl FnOnce(&Self, &mut CacheState)) {
        metrics::counter!("k8s_cli_watch_events_total").increment(events as u64);
        self.cache.apply(|state| change(self, state));
    }

    fn record_seen<K: CachedResource>(&self, moment: Instant) {
        if let Some(kind) = K::STATE_KIND {
            self.health.record_seen(kind, moment);
        }
    }

    /// Adds an object, or removes it if it no longer passes validation.
    fn apply_object<K: CachedResource>(&self, resource: K::Resource, state: &mut CacheState) {
        let (uid, name) = (resource.uid().unwrap_or_default(), resource.name_any());
        match K::from_resource(resource) {
            Ok(object) => object.apply(state),
            Err(why) => {
                K::remove(&uid, state);
                // Most events are about unrelated objects, so only state objects are worth a warning.
                if K::STATE_KIND.is_some() && self.ignored.allow(&uid).is_some() {
                    tracing::warn!(name, uid, %why, "ignoring an object with this server's labels that it did not create");
                }
            }
        }
    }
}
