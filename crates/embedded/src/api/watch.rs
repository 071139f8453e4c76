//! Watches: streams changes after a resource version.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::representation::Representation;
use super::request::{Api, ResourceRequest};
use super::{read, responses};
use crate::object::Kind;
use crate::selector::{FieldSelector, LabelSelector, Selection};
use crate::status_error::StatusError;
use crate::store::{self, ResourceVersion, WatchCache, WatchCacheEvent};

/// Default duration of a watch in seconds: the shortest that kube-apiserver picks (`--min-request-timeout`).
const DEFAULT_SECONDS: i64 = 1800;

/// Maximum duration of a watch, in seconds.
const MAX_SECONDS: i64 = 24 * 3600;

/// Interval between bookmarks, for watches that asked for them.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// How long before its end a watch gets a last bookmark, so that the next one resumes near the present
/// (`nextBookmarkTime` in <https://github.com/kubernetes/apiserver/blob/master/pkg/storage/cacher/cache_watcher.go>).
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

struct Watch {
    watch_cache: Arc<WatchCache>,
    stopping: CancellationToken,
    kind: Kind,
    namespace: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    representation: Representation,
    position: ResourceVersion,
    /// `None` if the client didn't ask for bookmarks, or if no further one is due.
    next_bookmark: Option<Instant>,
    end: Instant,
    ready: VecDeque<Bytes>,
    is_first: bool,
    is_over: bool,
}

/// Streams changes as they happen, one JSON document per line.
pub(super) async fn watch(api: &Api, mut request: ResourceRequest) -> Result<Response, StatusError> {
    // Watching a named object is watching a list that is filtered by name.
    if let Some(name) = request.target.name.take() {
        request.query.add_field_requirement("metadata.name", &name);
    }
    let asked = request.query.resource_version()?;
    let initial = request.query.flag("sendInitialEvents") || asked.unwrap_or(0) == 0;
    let seconds = request.query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let bookmarks = request.query.flag("allowWatchBookmarks");
    let list_query = store::ListQuery {
        limit: None,
        from: None,
        ..read::list_query(&request)?
    };
    let now = Instant::now();
    let seconds = seconds.unwrap_or(DEFAULT_SECONDS).min(MAX_SECONDS);
    let end = now + Duration::from_secs(seconds.unsigned_abs());
    let mut watch = Watch {
        watch_cache: Arc::clone(api.store.watch_cache()),
        stopping: api.stopping.clone(),
        kind: list_query.kind,
        namespace: list_query.namespace.clone(),
        labels: list_query.labels.clone(),
        fields: list_query.fields.clone(),
        representation: Representation::from_accept(&request.headers, api.clock),
        position: asked.unwrap_or(0),
        next_bookmark: bookmarks.then(|| next_bookmark(now, end)).flatten(),
        end,
        ready: VecDeque::new(),
        is_first: true,
        is_over: false,
    };
    if initial {
        let page = api
            .store
            .read(move |connection| store::list_objects(connection, &list_query))
            .await?;
        for object in &page.objects {
            watch.push("ADDED", object);
        }
        watch.position = page.version;
        if bookmarks {
            watch.bookmark(true);
        }
    }
    let body = Body::from_stream(stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), watch))
    }));
    Ok(responses::with_content_type(StatusCode::OK, "application/json", body))
}

impl Watch {
    /// Returns the next lines; `None` at the end of the watch.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.ready.is_empty() {
                return Some(self.take_lines());
            }
            if self.is_over {
                return None;
            }
            let seen = self.collect();
            if !self.ready.is_empty() {
                continue;
            }
            tokio::select! {
                // Things that are due at the same time happen in a fixed order, which makes simulations reproducible.
                // Changes come last: a steady stream of them must not hold up the end of the watch, or a bookmark.
                biased;
                () = self.stopping.cancelled() => self.is_over = true,
                () = sleep_until(self.end) => self.is_over = true,
                () = sleep_until(self.next_bookmark.unwrap_or(self.end)), if self.next_bookmark.is_some() => {
                    self.bookmark(false);
                    let now = Instant::now();
                    self.next_bookmark = next_bookmark(now, self.end).filter(|next| *next > now);
                }
                () = self.watch_cache.wait_for_newer(seen) => {}
            }
        }
    }

    /// Takes all queued lines as one chunk, so that a burst of changes is a single write.
    fn take_lines(&mut self) -> Bytes {
        if self.ready.len() == 1 {
            return self.ready.pop_front().unwrap_or_default();
        }
        let mut all = Vec::with_capacity(self.ready.iter().map(Bytes::len).sum());
        for line in self.ready.drain(..) {
            all.extend_from_slice(&line);
        }
        all.into()
    }

    /// Queues the changes since the last call; returns the version up to which it has looked.
    fn collect(&mut self) -> ResourceVersion {
        // Read this before the changes: what is published in between is collected next time, since the caller then
        // waits for a version newer than this one.
        let newest = self.watch_cache.newest();
        match self.watch_cache.changes_since(self.kind, self.position) {
            Ok(changes) => {
                for change in changes {
                    self.position = change.version;
                    self.push_change(&change);
                }
                self.position = self.position.max(newest);
            }
            Err(oldest) => {
                // The response has begun, so the status is an event, as in kube-apiserver. The client lists again.
                self.push_document("ERROR", &StatusError::expired(self.position, oldest).into_status());
                self.is_over = true;
            }
        }
        newest
    }

    fn push_change(&mut self, change: &WatchCacheEvent) {
        if self
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != change.namespace)
        {
            return;
        }
        let matches = |selection: &Option<Arc<Selection>>| {
            let selection = selection.as_ref();
            selection.is_some_and(|selection| self.labels.matches(selection) && self.fields.matches(selection))
        };
        // An object that begins to match the selectors is new to this client, and one that no longer matches is gone.
        let event_type = match (matches(&change.before), matches(&change.after)) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return,
        };
        self.push(event_type, &change.object);
    }

    fn push(&mut self, event_type: &str, object: &Bytes) {
        let shown = self.representation.encode_watched(self.kind, object, self.is_first);
        self.is_first = false;
        self.ready.push_back(encode_event(event_type, &shown));
    }

    /// Queues a bookmark: the version from which the client can resume.
    fn bookmark(&mut self, ends_initial: bool) {
        self.push_document(
            "BOOKMARK",
            &Bookmark {
                kind: self.kind.name(),
                api_version: self.kind.api_version(),
                metadata: BookmarkMetadata {
                    resource_version: self.position.to_string(),
                    annotations: ends_initial.then_some(BookmarkAnnotations {
                        initial_events_end: "true",
                    }),
                    creation_timestamp: (),
                },
            },
        );
    }

    fn push_document(&mut self, event_type: &str, document: &impl Serialize) {
        // Serializing these never fails.
        let document = serde_json::to_vec(document).unwrap_or_default();
        self.ready.push_back(encode_event(event_type, &document));
    }
}

/// The object of a bookmark.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bookmark {
    kind: &'static str,
    api_version: &'static str,
    metadata: BookmarkMetadata,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BookmarkAnnotations>,
    /// `null`, as in kube-apiserver.
    creation_timestamp: (),
}

#[derive(Serialize)]
struct BookmarkAnnotations {
    #[serde(rename = "k8s.io/initial-events-end")]
    initial_events_end: &'static str,
}

/// When the next bookmark of a watch that ends at `end` is due.
fn next_bookmark(now: Instant, end: Instant) -> Option<Instant> {
    let last = end.checked_sub(LAST_BOOKMARK).filter(|last| *last >= now)?;
    Some(last.min(now + BOOKMARK_INTERVAL))
}

/// Encodes a line of the response. The object is copied as bytes: parsing it again for each watch, be it only to check it
/// as a `RawValue`, would cost more than all the rest of the line.
fn encode_event(event_type: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(format!("{{\"type\":\"{event_type}\",\"object\":").as_bytes());
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
