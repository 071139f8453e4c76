//! Handlers that list cluster nodes and their accelerators.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use task::wire::{ClusterNode, GpuModel};
use utoipa::ToSchema;

use super::json::pollable_response;
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::AuthUser;

/// Cluster nodes.
#[derive(Serialize, ToSchema)]
pub(crate) struct NodeListResponse {
    nodes: Vec<ClusterNode>,
}

/// List the cluster nodes that tasks can run on.
///
/// Queries Kubernetes on each request. On a cluster, the server needs permission to list nodes; see
/// `docs/OPERATIONS.md`.
#[utoipa::path(
    get, path = "/nodes", operation_id = "list_nodes", tag = "cluster",
    responses((status = 200, description = "The cluster nodes.", body = NodeListResponse)),
)]
pub(crate) async fn list_nodes(State(app): State<AppState>, AuthUser(user): AuthUser) -> ApiResult<Response> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let nodes = app.executor.cluster_nodes().await;
    let nodes = nodes.map_err(|source| ApiError::executor("list nodes", &user, source))?;
    pollable_response(&NodeListResponse { nodes })
}

/// Accelerators.
#[derive(Serialize, ToSchema)]
pub(crate) struct GpuListResponse {
    gpus: Vec<GpuModel>,
}

/// List the accelerators of the cluster by model, and who uses them.
///
/// Queries Kubernetes on each request. On a cluster, the server needs permission to list nodes, and to list pods in all
/// namespaces to know what other applications use; see `docs/OPERATIONS.md`.
#[utoipa::path(
    get, path = "/gpus", operation_id = "list_gpus", tag = "cluster",
    responses((status = 200, description = "The accelerators of all ready cluster nodes.", body = GpuListResponse)),
)]
pub(crate) async fn list_gpus(State(app): State<AppState>, AuthUser(user): AuthUser) -> ApiResult<Response> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let gpus = app.executor.gpus().await;
    let gpus = gpus.map_err(|source| ApiError::executor("list GPUs", &user, source))?;
    pollable_response(&GpuListResponse { gpus })
}
