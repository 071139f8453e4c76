//! State shared by all request handlers.

use std::sync::Arc;

use bytes::Bytes;
use executor::Executor;
use task::wire::BackendKind;
use tokio_util::sync::CancellationToken;

use crate::access::AccessPolicy;
use crate::limits::RequestLimits;
use crate::telemetry::metrics::Metrics;

/// The components of the server, built once at startup.
pub struct App {
    /// Where tasks run.
    pub backend: BackendKind,
    /// Runs the tasks.
    pub executor: Executor,
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
