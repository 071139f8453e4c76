//! All routes of the server. The OpenAPI document is generated from the same registration, so it cannot drift.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, options};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::check_access;
use crate::app::AppState;
use crate::compression::{CompressionLimit, compress, ignore_refusals, limit_compression};
use crate::conditional::answer_conditionally;
use crate::error::error_response;
use crate::handlers::{docs, health, logs, nodes, tasks, volumes};
use crate::paths::{answers_head, is_known_path};
use crate::telemetry::request::trace_request;

/// The headers that web pages of allowed origins may send and read.
const ALLOWED_HEADERS: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("x-user"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("idempotency-key"),
];
const EXPOSED_HEADERS: [HeaderName; 4] = [
    header::ETAG,
    header::RETRY_AFTER,
    header::WARNING,
    HeaderName::from_static("x-request-id"),
];

/// How long a browser may remember the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// The routes of the API and their OpenAPI document.
pub(crate) fn api() -> (Router<AppState>, OpenApi) {
    resource_routes().merge(health_routes()).split_for_parts()
}

fn resource_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        // Tasks. axum matches the static segments `submit` and `stop` before a task ID.
        .routes(routes!(tasks::submit_task))
        .routes(routes!(tasks::stop_all_tasks))
        .routes(routes!(tasks::list_tasks))
        .routes(routes!(tasks::get_task_status))
        .routes(routes!(tasks::stop_task))
        .routes(routes!(logs::stream_task_logs))
        // Volumes.
        .routes(routes!(volumes::create_volume))
        .routes(routes!(volumes::list_volumes))
        .routes(routes!(volumes::get_volume_status, volumes::delete_volume))
        // The cluster.
        .routes(routes!(nodes::list_nodes))
}

fn health_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::health_check))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::version))
        .routes(routes!(health::metrics))
}

/// All routes: the API and the documentation pages, with the middleware around them.
pub(crate) fn router(app: AppState) -> Router {
    let mut resources: Router<AppState> = resource_routes().into();
    if !app.cors_origins.is_empty() {
        // Without a fallback of its own, a route would let OPTIONS pass by the layer.
        resources = resources
            .method_not_allowed_fallback(method_not_allowed)
            .layer(cors(&app.cors_origins));
    }
    let api = resources.merge(health_routes());
    let pages = Router::new()
        .route("/", options(health::health_check))
        .route("/healthz", options(health::healthz))
        .route("/readyz", options(health::readyz))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::docs))
        .route("/docs/assets/{name}", get(docs::docs_asset))
        .route("/redoc", get(docs::redoc))
        .route("/redoc/assets/redoc.standalone.js", get(docs::redoc_asset));
    let routes: Router = api
        .route_layer(from_fn(reject_head))
        .merge(pages)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        // The last layer is the outermost: `trace_request` also logs and counts rejected requests and panics.
        .layer(from_fn(answer_conditionally))
        .layer(from_fn_with_state(CompressionLimit::default(), limit_compression))
        .layer(compress())
        .layer(from_fn(ignore_refusals))
        .layer(from_fn_with_state(Arc::clone(&app.access), check_access))
        .layer(CatchPanicLayer::custom(handle_panic))
        .layer(from_fn(trace_request))
        .with_state(app);
    // axum adds the `Allow` header outside all layers of the router that holds the routes, so edit it in an outer one.
    Router::new()
        .fallback_service(routes)
        .layer(from_fn(rewrite_allow_header))
}

/// Lets web pages of the allowed origins use the API. A browser asks with OPTIONS before most requests. The layer answers
/// every OPTIONS, so it must not be around the routes for health checks.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(ALLOWED_HEADERS)
        .expose_headers(EXPOSED_HEADERS)
        .max_age(PREFLIGHT_MAX_AGE)
}

/// Answers HEAD with 405, as FastAPI does; axum would run the GET handler.
async fn reject_head(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD && !answers_head(request.uri().path()) {
        let mut response = method_not_allowed().await;
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    next.run(request).await
}

/// Rewrites the `Allow` header as FastAPI writes it: axum adds HEAD to every GET route.
async fn rewrite_allow_header(request: Request, next: Next) -> Response {
    let keeps_head = answers_head(request.uri().path());
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && !keeps_head
        && let Some(allow) = response.headers_mut().get_mut(header::ALLOW)
        && let Ok(methods) = allow.to_str()
    {
        let methods: Vec<&str> = methods.split(',').filter(|method| *method != "HEAD").collect();
        if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
            *allow = value;
        }
    }
    response
}

async fn method_not_allowed() -> Response {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// Redirects a known path with a trailing slash, as FastAPI does; all other paths are not found.
async fn not_found(State(app): State<AppState>, uri: Uri) -> Response {
    let path = uri.path();
    let Some(shorter) = path.strip_suffix('/').filter(|shorter| is_known_path(shorter)) else {
        return error_response(StatusCode::NOT_FOUND, "Not Found");
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // The location names no host: a forged Host header must not decide where the client goes.
    match HeaderValue::from_str(&format!("{}{shorter}{query}", app.root_path)) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        Err(_) => error_response(StatusCode::NOT_FOUND, "Not Found"),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`CatchPanicLayer` passes the panic by value"
)]
fn handle_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let reason = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(reason, "a handler panicked");
    error_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

#[cfg(test)]
mod tests;
