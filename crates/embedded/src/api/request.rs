//! What a handler gets: the state that all handlers share, and a parsed request.

use std::sync::Arc;

use axum::body::Body;
use clock::Clock;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use super::path::ResourcePath;
use super::query::Query;
use crate::kubelet::Kubelet;
use crate::store::Store;

/// State shared by the handlers.
#[derive(Clone)]
pub(crate) struct Api {
    pub store: Arc<Store>,
    /// Serves container logs; `None` in a `ControlPlane`, which runs no pods.
    pub kubelet: Option<Arc<Kubelet>>,
    /// For the ages in tables, and `sinceSeconds` of logs.
    pub clock: Clock,
    /// Ends watches and followed logs at shutdown.
    pub stopping: CancellationToken,
}

/// A parsed request for objects.
pub(super) struct ResourceRequest {
    pub target: ResourcePath,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Body,
}
