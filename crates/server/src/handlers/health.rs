//! Whether the server lives, whether it can serve, and what it measures.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use task::status::Version;
use utoipa::ToSchema;

use super::copy;
use crate::app::AppState;
use crate::error::{ApiResult, detailed};
use crate::extract::Reader;

/// That the server lives.
#[derive(Serialize, ToSchema)]
pub struct HealthResponse {
    /// `ok`.
    status: &'static str,
    /// `k8s-cli-api`.
    service: &'static str,
}

impl HealthResponse {
    /// The one that there is: a server that does not live says nothing.
    pub const OK: Self = Self {
        status: "ok",
        service: "k8s-cli-api",
    };
}

/// Say that the server lives.
#[utoipa::path(
    get, path = "/", operation_id = "health_check", tag = "health",
    responses((status = 200, description = "The server lives.", body = HealthResponse)),
)]
pub async fn health_check() -> Json<HealthResponse> {
    Json(HealthResponse::OK)
}

/// Say that the process lives. Nothing else is looked at.
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "health",
    responses((status = 200, description = "The process lives.", body = HealthResponse)),
)]
pub async fn healthz() -> Json<HealthResponse> {
    health_check().await
}

/// Say whether answers are true now and tasks can be submitted: the cache is in sync, the server may do everything that it has to,
/// and Kubernetes can write its store.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health",
    responses(
        (status = 200, description = "Answers are true.", body = HealthResponse),
        (status = 503, description = "The state of the cluster is not known, a right or the namespace is missing, Kubernetes is not ready (as when the disk of its store is full), or the server is stopping."),
    ),
)]
pub async fn readyz(State(app): State<AppState>) -> Response {
    if app.stopping.is_cancelled() {
        return detailed(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
    }
    match app.executor.check_ready().await {
        Ok(()) => health_check().await.into_response(),
        Err(error) => detailed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

/// Say which version this is, and where tasks run.
#[utoipa::path(
    get, path = "/version", operation_id = "version", tag = "health",
    responses((status = 200, description = "The version.", body = Version)),
)]
pub async fn version(State(app): State<AppState>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: app.backend.to_owned(),
        namespace: app.executor.namespace().to_owned(),
        kubernetes: app.executor.kubernetes().to_owned(),
    })
}

/// Show the measurements, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "The measurements.", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")),
)]
pub async fn metrics(State(app): State<AppState>, Reader(sender): Reader) -> ApiResult<Response> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let text = app.metrics.render(&app.executor);
    let answer = ([(header::CONTENT_TYPE, kind)], text).into_response();
    copy::answer(&app.limits, &sender, answer)
}
