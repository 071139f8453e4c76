//! State shared by all request handlers.

use std::sync::Arc;
use std::time::Duration;

use archive::FileStore;
use bytes::Bytes;
use executor::Executor;
use http::HeaderValue;
use task::wire::BackendKind;
use tokio_util::sync::CancellationToken;

use crate::access::AccessPolicy;
use crate::file_sets::FileSets;
use crate::limits::RequestLimits;
use crate::telemetry::metrics::Metrics;

/// The components of the server, built once at startup.
pub struct App {
    /// Where tasks run.
    pub backend: BackendKind,
    /// Runs the tasks.
    pub executor: Executor,
    /// The files of users.
    pub files: FileStore,
    /// The most bytes that the files of a task may have, compressed, if nodes cannot fetch more.
    pub max_packed_files: Option<u64>,
    /// The contents of the file sets that nodes are fetching.
    pub file_sets: FileSets,
    /// Decides which requests are accepted.
    pub access: Arc<AccessPolicy>,
    /// Limits on concurrent requests, streams, and memory.
    pub limits: RequestLimits,
    /// The source of `/metrics`.
    pub metrics: Metrics,
    /// The OpenAPI document, encoded as JSON.
    pub openapi: Bytes,
    /// Ends the log streams when the server stops.
    pub stopping: CancellationToken,
    /// Maximum number of nodes per task.
    pub max_nodes: u32,
    /// The origins whose web pages may use the API.
    pub cors_origins: Vec<HeaderValue>,
    /// The path prefix that a proxy strips from requests; empty if there is none.
    pub root_path: String,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: Duration,
}

/// A cheaply cloned handle to the [`App`], which axum passes to handlers.
#[derive(Clone)]
pub struct AppState(pub Arc<App>);

impl std::ops::Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}
