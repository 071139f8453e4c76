//! Fills the cache with lists and watches.
//!
//! Each kind is listed once and then watched, with requests of a few seconds each. `kube::runtime::watcher` does the
//! same, but hides bookmarks and the end of a response, which prove that nothing was missed (see `health`).

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::core::{NamespaceResourceScope, WatchEvent};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::health::Health;
use super::job::Job;
use super::kept::Kept;
use super::object::{Pod, TaskOwner, Volume, Warning};
use super::state::{Listed, State};
use super::store::Cache;
use crate::backoff::Backoff;
use crate::error::{explain, is_expired};
use crate::folded::Folded;
use crate::kubernetes::{Calls, Ending, ListParams, Resource, ResourceExt, WatchParams};
use crate::labels;

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

/// Selects the warnings that explain why a pod does not start. The excluded ones only repeat what the pod's status
/// says.
const WARNINGS: &str =
    "type=Warning,reason!=Unhealthy,reason!=BackOff,reason!=FailedScheduling,reason!=BackoffLimitExceeded";

/// Starts the watches, which run until `stop`.
pub fn watch(calls: &Calls, cache: &Arc<Cache>, health: &Arc<Health>, stop: &CancellationToken, tracker: &TaskTracker) {
    let watcher = Watcher {
        calls: calls.clone(),
        cache: Arc::clone(cache),
        health: Arc::clone(health),
        ignored: Arc::default(),
    };
    let tasks = || Selection {
        labels: Some(labels::TASK_SELECTOR),
        fields: None,
    };
    let volumes = Selection {
        labels: Some(labels::VOLUME_SELECTOR),
        fields: None,
    };
    let warnings = Selection {
        labels: None,
        fields: Some(WARNINGS),
    };
    let spawn = |watch| {
        let stop = stop.clone();
        tracker.spawn(async move { stop.run_until_cancelled(watch).await });
    };
    spawn(watcher.clone().keep::<Job>(0, tasks()).boxed());
    spawn(watcher.clone().keep::<Pod>(1, tasks()).boxed());
    spawn(watcher.clone().keep::<Volume>(2, volumes).boxed());
    spawn(watcher.clone().keep::<TaskOwner>(3, tasks()).boxed());
    spawn(watcher.keep::<Warning>(4, warnings).boxed());
}

/// Selectors for the objects of one kind.
#[derive(Clone, Copy)]
struct Selection {
    labels: Option<&'static str>,
    fields: Option<&'static str>,
}

#[derive(Clone)]
struct Watcher {
    calls: Calls,
    cache: Arc<Cache>,
    health: Arc<Health>,
    ignored: Arc<Folded>,
}

/// Why a watch ended early.
enum Interruption {
    /// The requested version is too old (410 Gone). The kind must be listed again, which is not a failure.
    Expired,
    Failed(String),
}

impl Watcher {
    /// Keeps one kind of object up to date, forever.
    async fn keep<K>(self, kind: usize, selection: Selection)
    where
        K: Kept,
        K::Resource: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send,
        <K::Resource as Resource>::DynamicType: Default,
    {
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut version = None;
        loop {
            let outcome = match &mut version {
                None => self
                    .list::<K>(kind, selection)
                    .await
                    .map(|listed| version = Some(listed)),
                Some(version) => self.follow::<K>(kind, selection, version).await,
            };
            match outcome {
                Ok(()) => pauses.reset(),
                Err(Interruption::Expired) => {
                    version = None;
                    sleep(pauses.next()).await;
                }
                Err(Interruption::Failed(why)) => {
                    tracing::debug!(kind, why, "list or watch failed");
                    if K::IS_STATE {
                        self.health.failed(kind, why);
                    }
                    sleep(pauses.next()).await;
                }
            }
        }
    }

    /// Lists all objects page by page, removes the others, and returns the version from which to watch.
    async fn list<K>(&self, kind: usize, selection: Selection) -> Result<String, Interruption>
    where
        K: Kept,
        K::Resource: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send,
        <K::Resource as Resource>::DynamicType: Default,
    {
        let api = self.calls.api::<K::Resource>();
        let started = Instant::now();
        let mut uids = HashSet::new();
        let mut params = ListParams {
            label_selector: selection.labels.map(str::to_owned),
            field_selector: selection.fields.map(str::to_owned),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let page = timeout(LIST_TIMEOUT, api.list(&params))
                .await
                .map_err(|_| Interruption::Failed("a list timed out".to_owned()))?
                .map_err(|error| self.interruption(&error))?;
            uids.extend(page.items.iter().filter_map(|resource| resource.meta().uid.clone()));
            self.apply(page.items.len(), |watcher, state| {
                for resource in page.items {
                    watcher.put::<K>(resource, state);
                }
            });
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let listed = Listed { uids: &uids, started };
                self.apply(0, |_, state| K::retain(state, &listed));
                self.proven::<K>(kind, started);
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Runs one watch request. `version` advances with every event, so that the next request continues there even after
    /// a failure.
    async fn follow<K>(&self, kind: usize, selection: Selection, version: &mut String) -> Result<(), Interruption>
    where
        K: Kept,
        K::Resource: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send,
        <K::Resource as Resource>::DynamicType: Default,
    {
        let api = self.calls.api::<K::Resource>();
        let params = WatchParams {
            label_selector: selection.labels.map(str::to_owned),
            field_selector: selection.fields.map(str::to_owned),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let silent = || Interruption::Failed("a watch timed out".to_owned());
        let asked = Instant::now();
        let ending = Ending::default();
        let opening = ending.noted(api.watch(&params, version));
        let events = timeout(SILENCE, opening).await.map_err(|_| silent())?;
        let events = events.map_err(|error| self.interruption(&error))?;
        let mut events = events.ready_chunks(BATCH).boxed();
        while let Some(batch) = timeout(SILENCE, events.next()).await.map_err(|_| silent())? {
            let mut result = Ok(());
            let mut bookmarked = false;
            self.apply(batch.len(), |watcher, state| {
                for event in batch {
                    match event {
                        Ok(WatchEvent::Added(resource) | WatchEvent::Modified(resource)) => {
                            *version = resource.resource_version().unwrap_or_default();
                            watcher.put::<K>(resource, state);
                        }
                        Ok(WatchEvent::Deleted(resource)) => {
                            *version = resource.resource_version().unwrap_or_default();
                            K::remove(resource.meta().uid.as_deref().unwrap_or_default(), state);
                        }
                        Ok(WatchEvent::Bookmark(bookmark)) => {
                            *version = bookmark.metadata.resource_version;
                            bookmarked = true;
                        }
                        Ok(WatchEvent::Error(status)) => result = Err(self.interruption(&kube::Error::Api(status))),
                        Err(error) => result = Err(self.interruption(&error)),
                    }
                }
            });
            if bookmarked {
                self.proven::<K>(kind, asked);
            }
            result?;
        }
        // `kube` does not distinguish a broken connection from the end of the response.
        if !ending.is_whole() || asked.elapsed() < WATCH {
            return Err(Interruption::Failed("a watch connection broke".to_owned()));
        }
        self.proven::<K>(kind, asked + WATCH);
        Ok(())
    }

    fn interruption(&self, error: &kube::Error) -> Interruption {
        self.calls.note(error);
        if is_expired(error) {
            Interruption::Expired
        } else {
            Interruption::Failed(explain(error))
        }
    }

    fn apply(&self, events: usize, change: impl FnOnce(&Self, &mut State)) {
        metrics::counter!("k8s_cli_watch_events_total").increment(events as u64);
        self.cache.apply(|state| change(self, state));
    }

    fn proven<K: Kept>(&self, kind: usize, moment: Instant) {
        if K::IS_STATE {
            self.health.proven(kind, moment);
        }
    }

    /// Adds an object, or removes it if it no longer passes validation.
    fn put<K: Kept>(&self, resource: K::Resource, state: &mut State)
    where
        K::Resource: ResourceExt,
    {
        let (uid, name) = (resource.uid().unwrap_or_default(), resource.name_any());
        match K::from_resource(resource) {
            Ok(object) => object.put(state),
            Err(why) => {
                K::remove(&uid, state);
                // Most events are about unrelated objects, so only state objects are worth a warning.
                if K::IS_STATE && self.ignored.tell(&uid).is_some() {
                    tracing::warn!(name, uid, %why, "ignoring an object with this server's labels that it did not create");
                }
            }
        }
    }
}
