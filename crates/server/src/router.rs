//! All routes of the server. The OpenAPI document is generated from the same registration, so it cannot drift.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, options};
use futures::FutureExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tower::ServiceExt;
use tower::util::MapResponse;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::AppState;
use crate::compression::{CompressionLimit, compress};
use crate::conditional::answer_conditionally;
use crate::error::error_response;
use crate::handlers::{
    cancel, docs, events, files, groups, health, history, logs, nodes, outputs, task_files, tasks, volumes,
};
use crate::known_paths::{answers_head, is_known_path, is_page};
use crate::telemetry::request::trace_request;

/// The headers that web pages of allowed origins may send and read.
const ALLOWED_HEADERS: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_NONE_MATCH,
    HeaderName::from_static("x-user"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
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
        // Tasks. axum matches the static segments `submit`, `stop`, `cancel`, and `events` before a task ID.
        .routes(routes!(tasks::submit_task))
        .routes(routes!(tasks::stop_all_tasks))
        .routes(routes!(cancel::cancel_all_tasks))
        .routes(routes!(tasks::list_tasks))
        .routes(routes!(events::stream_task_events))
        .routes(routes!(tasks::get_task_status))
        .routes(routes!(tasks::stop_task))
        .routes(routes!(cancel::cancel_task))
        .routes(routes!(logs::stream_task_logs))
        // Groups of tasks.
        .routes(routes!(groups::submit_group))
        .routes(routes!(groups::get_group))
        .routes(routes!(groups::stop_group))
        .routes(routes!(groups::cancel_group))
        // Past tasks.
        .routes(routes!(history::list_history))
        .routes(routes!(history::get_usage))
        .routes(routes!(history::get_record))
        .routes(routes!(history::stream_record_logs))
        // Files. axum matches the static segment `contents` before a file set.
        .routes(routes!(files::get_file_limits))
        .routes(routes!(files::upload_contents))
        .routes(routes!(files::get_files, files::put_files))
        .routes(routes!(task_files::download_manifest))
        .routes(routes!(task_files::download_contents))
        // Outputs.
        .routes(routes!(outputs::upload_output_contents))
        .routes(routes!(outputs::put_outputs))
        .routes(routes!(outputs::get_outputs, outputs::delete_outputs))
        .routes(routes!(outputs::download_output_manifest))
        .routes(routes!(outputs::download_output_contents))
        // Volumes.
        .routes(routes!(volumes::create_volume))
        .routes(routes!(volumes::list_volumes))
        .routes(routes!(volumes::get_volume_status, volumes::delete_volume))
        // The cluster.
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(nodes::list_gpus))
        .routes(routes!(health::version))
}

fn health_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::health_check))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// All routes, as the service of a connection.
pub(crate) type Routes = MapResponse<Router, fn(Response) -> Response>;

/// What [`handle`] needs besides the request.
#[derive(Clone)]
struct Middleware {
    app: AppState,
    compression: CompressionLimit,
}

/// Marks a response with status 405 whose `Allow` header must not name HEAD.
#[derive(Debug, Clone, Copy)]
struct AllowsNoHead;

/// All routes: the API and the documentation pages, with the middleware around them.
pub(crate) fn router(app: AppState) -> Routes {
    let mut resources: Router<AppState> = resource_routes().into();
    resources = resources.route("/openapi.json", get(docs::openapi));
    let mut health: Router<AppState> = health_routes().into();
    if !app.cors_origins.is_empty() {
        // Without a fallback of its own, a route would let OPTIONS pass by the layer.
        resources = resources
            .method_not_allowed_fallback(method_not_allowed)
            .layer(cors(&app.cors_origins));
        health = health.layer(from_fn_with_state(app.clone(), allow_origin));
    }
    let api = resources.merge(health);
    let pages = Router::new()
        .route("/", options(health::health_check))
        .route("/healthz", options(health::healthz))
        .route("/readyz", options(health::readyz))
        .route("/docs", get(docs::docs))
        .route("/docs/assets/{name}", get(docs::docs_asset))
        .route("/redoc", get(docs::redoc))
        .route("/redoc/assets/redoc.standalone.js", get(docs::redoc_asset));
    let middleware = Middleware {
        app: app.clone(),
        compression: CompressionLimit::default(),
    };
    let routes: Router = api
        .merge(pages)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(middleware, handle))
        .with_state(app);
    // axum adds the `Allow` header outside all layers of the router that holds the routes.
    ServiceExt::<Request>::map_response(routes, rewrite_allow_header)
}

/// Everything around the handlers, the outermost first: `trace_request` also logs and counts rejected requests and
/// panics. This is a single layer on purpose. In each layer of this kind, axum clones and boxes all services within,
/// which for seven layers took as long as all other work of the server for a status.
async fn handle(State(middleware): State<Middleware>, request: Request, next: Next) -> Response {
    let Middleware { app, compression } = middleware;
    let answer = move |request| {
        let next = next.clone();
        answer_conditionally(request, async |request| run(request, next).await)
    };
    let compressed = async move |request| compress(&compression, request, answer).await;
    let checked = async move |request| app.access.run_if_allowed(request, compressed).await;
    trace_request(request, async |request| catch_panic(checked(request)).await).await
}

/// Runs the handler of the route.
async fn run(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let allows_no_head = !answers_head(path);
    let mut response = if request.method() == Method::HEAD && allows_no_head && is_api_route(&request) {
        method_not_allowed().await
    } else {
        next.run(request).await
    };
    if allows_no_head && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.extensions_mut().insert(AllowsNoHead);
    }
    response
}

/// Whether a route of the API, and not a page of the documentation, is to answer. HEAD is refused there, as by FastAPI;
/// axum would run the GET handler.
fn is_api_route(request: &Request) -> bool {
    let route = request.extensions().get::<MatchedPath>();
    route.is_some_and(|route| !is_page(route.as_str()))
}

/// Lets web pages of the allowed origins read the response of a health check. A browser does not ask before it sends one,
/// and these routes answer OPTIONS themselves.
async fn allow_origin(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin.filter(|origin| app.cors_origins.contains(origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// Lets web pages of the allowed origins use the API. A browser asks with OPTIONS before most requests. The layer answers
/// every OPTIONS, so it must not be around the routes for health checks.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(ALLOWED_HEADERS)
        .expose_headers(EXPOSED_HEADERS)
        .max_age(PREFLIGHT_MAX_AGE)
}

/// Rewrites the `Allow` header as FastAPI writes it: axum adds HEAD to every GET route.
fn rewrite_allow_header(mut response: Response) -> Response {
    if response.extensions().get::<AllowsNoHead>().is_none() {
        return response;
    }
    let methods = match response.headers().get(header::ALLOW).map(HeaderValue::to_str) {
        Some(Ok(methods)) => methods
            .split(',')
            .filter(|method| *method != "HEAD")
            .collect::<Vec<_>>()
            .join(", "),
        // axum lists the methods only if it refuses one itself, and it would have run the GET handler.
        _ => Method::GET.to_string(),
    };
    if let Ok(value) = HeaderValue::from_str(&methods) {
        response.headers_mut().insert(header::ALLOW, value);
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

/// Answers with 500 if the handler panics.
fn catch_panic(answer: impl Future<Output = Response>) -> impl Future<Output = Response> {
    // Safe to continue: what the handler left half done is dropped with it, and locks ignore poison.
    let caught = AssertUnwindSafe(answer).catch_unwind();
    let answer_panic = |panic: Box<dyn Any + Send>| {
        let reason = panic.downcast_ref::<String>().map(String::as_str);
        let reason = reason
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown");
        tracing::error!(reason, "a handler panicked");
        error_response(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    };
    caught.map(move |answered| answered.unwrap_or_else(answer_panic))
}

#[cfg(test)]
mod tests;
