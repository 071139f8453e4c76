//! The machines that tasks can run on.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use task::status::Machine;
use utoipa::ToSchema;

use super::tasks::failed;
use crate::app::AppState;
use crate::error::ApiResult;
use crate::extract::Caller;

/// Machines.
#[derive(Serialize, ToSchema)]
pub struct NodeListResponse {
    nodes: Vec<Machine>,
}

/// List the machines that tasks can run on.
///
/// Kubernetes is asked each time. On a cluster the server needs a right for it; see `docs/OPERATIONS.md`.
#[utoipa::path(
    get, path = "/nodes", operation_id = "list_nodes", tag = "cluster",
    responses((status = 200, description = "The machines.", body = NodeListResponse)),
)]
pub async fn list_nodes(State(app): State<AppState>, Caller(user): Caller) -> ApiResult<Json<NodeListResponse>> {
    let _permit = app.limits.change()?;
    let nodes = app.executor.machines().await;
    let nodes = nodes.map_err(|source| failed("list nodes", &user, source))?;
    Ok(Json(NodeListResponse { nodes }))
}
