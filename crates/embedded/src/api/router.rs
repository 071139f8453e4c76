//! Routes requests to their handlers.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{Method, StatusCode};

use super::body::read_body;
use super::path::{RequestPath, Subresource};
use super::query::Query;
use super::request::{Api, ResourceRequest};
use super::{delete, patch, path, pod_logs, read, responses, watch, write};
use crate::kubectl;
use crate::status_error::StatusError;

pub(crate) fn router(api: Api) -> Router {
    Router::new().fallback(handle).with_state(api)
}

async fn handle(State(api): State<Api>, request: Request) -> Response {
    match route(&api, request).await {
        Ok(response) => response,
        Err(error) => responses::status_error(error),
    }
}

async fn route(api: &Api, request: Request) -> Result<Response, StatusError> {
    let (parts, body) = request.into_parts();
    let target = match path::parse_path(parts.uri.path())? {
        RequestPath::Resource(target) => target,
        RequestPath::Discovery(document) if parts.method == Method::GET => {
            return Ok(responses::value(StatusCode::OK, &kubectl::document(&document)));
        }
        RequestPath::AccessReview if parts.method == Method::POST => {
            let review = kubectl::review_access(&read_body(body).await?)?;
            return Ok(responses::value(StatusCode::CREATED, &review));
        }
        RequestPath::Liveness if parts.method == Method::GET => return Ok(responses::ok()),
        RequestPath::Readiness if parts.method == Method::GET => {
            api.store.check().map_err(StatusError::internal)?;
            return Ok(responses::ok());
        }
        RequestPath::Discovery(_) | RequestPath::AccessReview | RequestPath::Liveness | RequestPath::Readiness => {
            return Err(StatusError::method_not_allowed());
        }
    };
    let request = ResourceRequest {
        target,
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body,
    };
    let is_watch = request.query.flag("watch");
    match (parts.method, request.target.name.is_some(), request.target.subresource) {
        (Method::GET, true, Some(Subresource::Log)) => pod_logs::stream(api, request).await,
        (Method::GET, true, None | Some(Subresource::Status)) if is_watch => watch::watch(api, request).await,
        (Method::GET, true, None | Some(Subresource::Status)) => read::get(api, request).await,
        (Method::GET, false, None) if is_watch => watch::watch(api, request).await,
        (Method::GET, false, None) => read::list(api, request).await,
        (Method::POST, false, None) => write::create(api, request).await,
        (Method::POST, true, Some(Subresource::Eviction)) => delete::evict(api, request).await,
        (Method::PUT, true, None | Some(Subresource::Status)) => write::replace(api, request).await,
        (Method::PATCH, true, None | Some(Subresource::Status)) => patch::patch(api, request).await,
        (Method::DELETE, true, None) => delete::delete(api, request).await,
        (Method::DELETE, false, None) => delete::delete_collection(api, request).await,
        _ => Err(StatusError::method_not_allowed()),
    }
}
