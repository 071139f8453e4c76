//! Handlers for health checks, the version, and metrics.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{StatusCode, header};
use serde::Serialize;
use task::wire::ServerVersion;
use utoipa::ToSchema;

use super::budgeted::budgeted_response;
use crate::access::UnknownHost;
use crate::app::AppState;
use crate::error::{ApiResult, error_response};
use crate::extract::Anonymous;

/// A successful health check.
#[derive(Serialize, ToSchema)]
pub(crate) struct HealthResponse {
    #[schema(inline)]
    status: OkStatus,
    #[schema(inline)]
    service: ServiceName,
}

/// Always `ok`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OkStatus {
    Ok,
}

/// Always `k8s-cli-api`.
#[derive(Serialize, ToSchema)]
enum ServiceName {
    #[serde(rename = "k8s-cli-api")]
    Server,
}

impl HealthResponse {
    /// The only value: a server that is not running sends nothing.
    pub(crate) const OK: Self = Self {
        status: OkStatus::Ok,
        service: ServiceName::Server,
    };
}

/// Check that the server is running.
#[utoipa::path(
    get, path = "/", operation_id = "health_check", tag = "health",
    responses((status = 200, description = "The server is running.", body = HealthResponse)),
)]
pub(crate) async fn health_check() -> Json<HealthResponse> {
    Json(HealthResponse::OK)
}

/// Check that the process is alive, without checking anything else.
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "health",
    responses((status = 200, description = "The process is alive.", body = HealthResponse)),
)]
pub(crate) async fn healthz() -> Json<HealthResponse> {
    health_check().await
}

/// Check that the server is ready to report current states and to submit tasks.
///
/// The cache must be in sync, the server must have all required permissions, and Kubernetes must be able to store
/// objects.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health",
    responses(
        (status = 200, description = "The server is ready.", body = HealthResponse),
        (status = 503, description = "The cache is out of sync, a permission or the namespace is missing, Kubernetes is not ready (e.g., because the disk of its store is full), or the server is stopping."),
    ),
)]
pub(crate) async fn readyz(State(app): State<AppState>, unknown_host: Option<Extension<UnknownHost>>) -> Response {
    if app.stopping.is_cancelled() {
        return error_response(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    }
    match app.executor.check_ready().await {
        Ok(()) => health_check().await.into_response(),
        // A web page could read this by DNS rebinding, and the reason names internal addresses.
        Err(_) if unknown_host.is_some() => error_response(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        Err(error) => error_response(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

/// Get the versions of the server and of Kubernetes, and where tasks run.
#[utoipa::path(
    get, path = "/version", operation_id = "version", tag = "health",
    responses((status = 200, description = "The versions, the backend, and the namespace.", body = ServerVersion)),
)]
pub(crate) async fn version(State(app): State<AppState>) -> Json<ServerVersion> {
    Json(ServerVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: app.backend.clone(),
        namespace: app.executor.namespace().to_owned(),
        kubernetes: app.executor.kubernetes_version().to_owned(),
        machine: peer::machine::boot_id(),
    })
}

/// Get metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
)]
pub(crate) async fn metrics(State(app): State<AppState>, Anonymous(requester): Anonymous) -> ApiResult<Response> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let text = app.metrics.render(&app.executor);
    let response = ([(header::CONTENT_TYPE, kind)], text).into_response();
    budgeted_response(&app.limits, &requester, response)
}
