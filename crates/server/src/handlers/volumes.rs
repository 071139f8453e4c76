//! Handlers that create, list, inspect, and delete volumes.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use task::wire::VolumeStatus;
use utoipa::ToSchema;

use super::budgeted::budgeted_response;
use super::json::pollable_response;
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{AuthUser, CreateVolume, ListScope, ResourceId};
use crate::telemetry::request::CreatedId;

/// Response to the creation of a volume.
#[derive(Serialize, ToSchema)]
pub(crate) struct VolumeCreateResponse {
    /// ID of the new volume.
    volume_id: String,
    #[schema(inline)]
    status: CreatedStatus,
    /// Human-readable result.
    message: String,
}

/// Response to the deletion of a volume.
#[derive(Serialize, ToSchema)]
pub(crate) struct VolumeDeleteResponse {
    /// ID of the volume.
    volume_id: String,
    #[schema(inline)]
    status: DeletedStatus,
    /// Human-readable result; lists the tasks that still use the volume.
    message: String,
}

/// Always `created`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CreatedStatus {
    Created,
}

/// Always `deleted`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DeletedStatus {
    Deleted,
}

/// Volumes, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct VolumeListResponse {
    volumes: Vec<VolumeStatus>,
}

/// Create a volume.
#[utoipa::path(
    post, path = "/volumes/create", operation_id = "create_volume", tag = "volumes",
    request_body = task::VolumeDefinition,
    responses((status = 200, description = "The volume was created.", body = VolumeCreateResponse)),
)]
pub(crate) async fn create_volume(State(app): State<AppState>, request: CreateVolume) -> ApiResult<Response> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let CreateVolume { user, definition } = request;
    let name = definition.name.clone();
    let created = app.executor.create_volume(user.clone(), definition).await;
    let id = created
        .map_err(|source| ApiError::executor("create volume", &user, source))?
        .to_string();
    tracing::info!(event = "volume_created", volume_id = id, user = %user, %name, "volume created");
    let body = VolumeCreateResponse {
        message: format!("Volume created successfully with ID: {id}"),
        status: CreatedStatus::Created,
        volume_id: id.clone(),
    };
    let mut response = Json(body).into_response();
    response.extensions_mut().insert(CreatedId(id));
    Ok(response)
}

/// List volumes.
#[utoipa::path(
    get, path = "/volumes", operation_id = "list_volumes", tag = "volumes",
    params(("all_users" = Option<bool>, Query, description = "List the volumes of all users instead of only the caller's.")),
    responses((status = 200, description = "The volumes, oldest first.", body = VolumeListResponse)),
)]
pub(crate) async fn list_volumes(State(app): State<AppState>, scope: ListScope) -> ApiResult<Response> {
    let volumes = app.executor.volumes(scope.owner());
    let volumes = volumes.map_err(|source| ApiError::executor("list volumes", &scope.user, source))?;
    let response = pollable_response(&VolumeListResponse { volumes })?;
    budgeted_response(&app.limits, &scope.requester, response)
}

/// Get the status of a volume.
#[utoipa::path(
    get, path = "/volumes/{volume_id}", operation_id = "get_volume_status", tag = "volumes",
    params(("volume_id" = String, Path, description = "ID of the volume.")),
    responses(
        (status = 200, description = "The status of the volume.", body = VolumeStatus),
        (status = 404, description = "The user has no volume with this ID."),
    ),
)]
pub(crate) async fn get_volume_status(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Response> {
    let volume = app.executor.volume(&user, &id);
    let volume = volume.map_err(|source| ApiError::executor("get volume status", &user, source))?;
    pollable_response(&volume.ok_or_else(|| not_found(&id))?)
}

/// Delete a volume.
///
/// A volume in use is deleted when the tasks that mount it finish. Until then, its status is `Terminating`, and new
/// tasks cannot mount it.
#[utoipa::path(
    delete, path = "/volumes/{volume_id}", operation_id = "delete_volume", tag = "volumes",
    params(("volume_id" = String, Path, description = "ID of the volume.")),
    responses(
        (status = 200, description = "The volume was deleted, or will be when it is no longer in use.", body = VolumeDeleteResponse),
        (status = 404, description = "The user has no volume with this ID."),
    ),
)]
pub(crate) async fn delete_volume(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<VolumeDeleteResponse>> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let deleted = app.executor.delete_volume(&user, &id).await;
    let deleted = deleted.map_err(|source| ApiError::executor("delete volume", &user, source))?;
    let used_by = deleted.ok_or_else(|| not_found(&id))?;
    tracing::info!(event = "volume_deleted", volume_id = id, user = %user, ?used_by, "volume deleted");
    let message = match used_by.as_slice() {
        [] => format!("Volume {id} deleted successfully"),
        [task] => format!("Volume {id} will be deleted when task {task} finishes"),
        tasks => format!("Volume {id} will be deleted when tasks {} finish", tasks.join(", ")),
    };
    Ok(Json(VolumeDeleteResponse {
        volume_id: id,
        status: DeletedStatus::Deleted,
        message,
    }))
}

fn not_found(id: &str) -> ApiError {
    ApiError::NotFound(format!("Volume {id} not found"))
}
