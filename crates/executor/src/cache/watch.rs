//! The watches that fill the cache.
//!
//! Each kind is listed, and then watched in requests of a few seconds, one after the other. `kube::runtime::watcher` does
//! that as well, and swallows what matters most here: bookmarks and ends, which prove that nothing was missed (`health`).

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

/// How long one watch request lasts. The end of its answer proves what was seen: an API server ends it when this time is over, and
/// everything that it has sent by then comes before the end. Bookmarks would say so earlier, and are not promised: an API
/// server has none to send of a kind of which nothing has changed since its start
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks>).
const WATCH_SECONDS: u32 = 3;
const WATCH: Duration = Duration::from_secs(WATCH_SECONDS as u64);

/// How long nothing at all may arrive on a watch: its time, and more for a slow network.
const SILENCE: Duration = WATCH.saturating_add(Duration::from_secs(5));

/// How long a page of a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// How many objects a list brings at once: a page is decoded whole, and 100 Jobs are about half a megabyte.
const PAGE: u32 = 100;

/// How many events are applied under one lock, when that many have arrived.
const BATCH: usize = 128;

/// The pauses after a failed list or watch: short, because all answers wait for it, and few enough not to burden a cluster.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Warnings that say why a pod does not come to run. Others are about what its own status already says.
const WARNINGS: &str =
    "type=Warning,reason!=Unhealthy,reason!=BackOff,reason!=FailedScheduling,reason!=BackoffLimitExceeded";

/// Starts the watches; they end with `stop`.
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

/// Which objects of a kind are meant.
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

/// Why a watch did not go on to its end.
enum Interruption {
    /// The history that it asked for is over: it must list again, which is no fault.
    Expired,
    Failed(String),
}

impl Watcher {
    /// Keeps one kind of object in the cache for ever.
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
                    tracing::debug!(kind, why, "a list or watch failed");
                    if K::IS_STATE {
                        self.health.failed(kind, why);
                    }
                    sleep(pauses.next()).await;
                }
            }
        }
    }

    /// Lists all objects, page by page, forgets the others, and gives the version to go on from.
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
                .map_err(|_| Interruption::Failed("a list was not answered".to_owned()))?
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

    /// Watches for a few seconds. What was seen is seen, however it ends: `version` is always where to go on.
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
        let silent = || Interruption::Failed("a watch was silent".to_owned());
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
        // `kube` ends a watch whose connection is cut like one whose time is over.
        if !ending.is_whole() || asked.elapsed() < WATCH {
            return Err(Interruption::Failed("a watch was cut".to_owned()));
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

    /// Takes an object in. One that was ours and was changed so that it no longer is goes.
    fn put<K: Kept>(&self, resource: K::Resource, state: &mut State)
    where
        K::Resource: ResourceExt,
    {
        let (uid, name) = (resource.uid().unwrap_or_default(), resource.name_any());
        match K::from_resource(resource) {
            Ok(object) => object.put(state),
            Err(why) => {
                K::remove(&uid, state);
                // Events of all kinds come by; most are none of ours.
                if K::IS_STATE && self.ignored.tell(&uid).is_some() {
                    tracing::warn!(name, uid, %why, "ignored an object that this server has not made");
                }
            }
        }
    }
}
