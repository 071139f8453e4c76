//! Handler that lists cluster nodes.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use task::status::Machine;
use utoipa::ToSchema;

use super::tasks::failed;
use crate::app::AppState;
use crate::error::ApiResult;
use crate::extract::Caller;

/// Cluster nodes.
#[derive(Serialize, ToSchema)]
pub struct NodeListResponse {
    nodes: Vec<Machine>,
}

/// List the cluster nodes that tasks can run on.
///
/// Queries Kubernetes on each request. On a cluster, the server needs permission to list nodes; see
/// `docs/OPERATIONS.md`.
#[utoipa::path(
    get, path = "/nodes", operation_id = "list_nodes", tag = "cluster",
    responses((status = 200, description = "The cluster nodes.", body = NodeListResponse)),
)]
pub async fn list_nodes(State(app): State<AppState>, Caller(user): Caller) -> ApiResult<Json<NodeListResponse>> {
    let _permit = app.limits.change()?;
    let nodes = app.executor.cluster_nodes().await;
    let nodes = nodes.map_err(|source| failed("list nodes", &user, source))?;
    Ok(Json(NodeListResponse { nodes }))
}
