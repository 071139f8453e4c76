//! The Kubernetes API as an axum `Router`, which `kube::Client` can use without a socket.

mod answer;
mod discovery;
mod logs;
mod patch;
mod path;
mod query;
mod read;
mod table;
mod view;
mod watch;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use clock::Clock;
use http::{HeaderMap, Method};
use tokio_util::sync::CancellationToken;

use self::path::{Path, Target};
use self::query::Query;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::store::Store;

/// State shared by the handlers.
#[derive(Clone)]
pub struct Api {
    pub store: Arc<Store>,
    /// Serves container logs; `None` in a `ControlPlane`, which runs no pods.
    pub node: Option<Arc<Node>>,
    /// For the ages in tables, and `sinceSeconds` of logs.
    pub clock: Clock,
    /// Ends watches and followed logs at shutdown.
    pub stopping: CancellationToken,
}

pub fn router(api: Api) -> Router {
    Router::new().fallback(handle).with_state(api)
}

async fn handle(State(api): State<Api>, request: Request) -> Response {
    match route(&api, request).await {
        Ok(response) => response,
        Err(refusal) => answer::refusal(&refusal),
    }
}

/// A parsed request for objects.
struct Call {
    target: Target,
    query: Query,
    headers: HeaderMap,
    body: Body,
}

async fn route(api: &Api, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let target = match path::parse(parts.uri.path())? {
        Path::Objects(target) => target,
        Path::Document(document) if parts.method == Method::GET => return discovery::document(&document),
        Path::AccessReview if parts.method == Method::POST => return discovery::access_review(body).await,
        Path::Readiness if parts.method == Method::GET => {
            api.store.check().map_err(Refusal::internal)?;
            return discovery::document(&path::Document::Health);
        }
        Path::Document(_) | Path::AccessReview | Path::Readiness => return Err(Refusal::method_not_allowed()),
    };
    let call = Call {
        target,
        query: Query::parse(parts.uri.query().unwrap_or_default())?,
        headers: parts.headers,
        body,
    };
    let subresource = call.target.subresource.clone();
    match (parts.method, call.target.name.is_some(), subresource.as_deref()) {
        (Method::GET, true, Some("log")) => logs::stream(api, call).await,
        (Method::GET, true, None | Some("status")) if call.query.flag("watch") => watch::watch(api, call).await,
        (Method::GET, true, None | Some("status")) => read::get(api, call).await,
        (Method::GET, false, None) if call.query.flag("watch") => watch::watch(api, call).await,
        (Method::GET, false, None) => read::list(api, call).await,
        (Method::POST, false, None) => write::create(api, call).await,
        (Method::POST, true, Some("eviction")) => write::evict(api, call).await,
        (Method::PUT, true, None | Some("status")) => write::replace(api, call).await,
        (Method::PATCH, true, None | Some("status")) => patch::patch(api, call).await,
        (Method::DELETE, true, None) => write::delete(api, call).await,
        (Method::DELETE, false, None) => write::delete_collection(api, call).await,
        (_, _, None | Some("status" | "log" | "eviction")) => Err(Refusal::method_not_allowed()),
        _ => Err(Refusal::no_such_path()),
    }
}
