//! What all requests share.

use std::sync::Arc;

use bytes::Bytes;
use executor::Executor;
use tokio_util::sync::CancellationToken;

use crate::guard::Guard;
use crate::limits::Limits;
use crate::telemetry::metrics::Metrics;

/// The components of the server, built once at start.
pub struct App {
    /// Where tasks run: `cluster` or `embedded`.
    pub backend: &'static str,
    /// Runs the tasks.
    pub executor: Executor,
    /// Who may ask.
    pub guard: Arc<Guard>,
    /// What is allowed at once.
    pub limits: Limits,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// The OpenAPI document.
    pub openapi: Bytes,
    /// Ends the log streams when the server stops.
    pub stopping: CancellationToken,
    /// Most nodes of one task.
    pub max_nodes: u32,
}

/// A handle to the [`App`].
#[derive(Clone)]
pub struct AppState(pub Arc<App>);

impl std::ops::Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}
