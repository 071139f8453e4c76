//! Volumes: create, list, status, delete.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use task::volume::VolumeStatus;
use utoipa::ToSchema;

use super::tasks::failed;
use super::{Subject, copy};
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Caller, CreateVolume, Listing, ResourceId};

/// The answer to a create.
#[derive(Serialize, ToSchema)]
pub struct VolumeCreateResponse {
    /// The identifier of the new volume.
    volume_id: String,
    /// `created`.
    status: &'static str,
    /// For a person.
    message: String,
}

/// The answer to a delete.
#[derive(Serialize, ToSchema)]
pub struct VolumeDeleteResponse {
    /// The volume.
    volume_id: String,
    /// `deleted`.
    status: &'static str,
    /// For a person; names the tasks that still use it.
    message: String,
}

/// Volumes, oldest first.
#[derive(Serialize, ToSchema)]
pub struct VolumeListResponse {
    volumes: Vec<VolumeStatus>,
}

/// Create a volume.
#[utoipa::path(
    post, path = "/volumes/create", operation_id = "create_volume", tag = "volumes",
    request_body = task::VolumeDefinition,
    responses((status = 200, description = "The volume is created.", body = VolumeCreateResponse)),
)]
pub async fn create_volume(State(app): State<AppState>, request: CreateVolume) -> ApiResult<Response> {
    let _permit = app.limits.change()?;
    let CreateVolume { user, definition } = request;
    let name = definition.name.clone();
    let created = app.executor.create_volume(user.clone(), definition).await;
    let id = created
        .map_err(|source| failed("create volume", &user, source))?
        .to_string();
    tracing::info!(event = "volume_created", volume_id = id, user = %user, %name, "volume created");
    let answer = VolumeCreateResponse {
        message: format!("Volume created successfully with ID: {id}"),
        status: "created",
        volume_id: id.clone(),
    };
    let mut response = Json(answer).into_response();
    response.extensions_mut().insert(Subject(id));
    Ok(response)
}

/// List volumes.
#[utoipa::path(
    get, path = "/volumes", operation_id = "list_volumes", tag = "volumes",
    params(("all_users" = Option<bool>, Query, description = "List the volumes of all users.")),
    responses((status = 200, description = "The volumes, oldest first.", body = VolumeListResponse)),
)]
pub async fn list_volumes(State(app): State<AppState>, listing: Listing) -> ApiResult<Response> {
    let volumes = app.executor.volumes(listing.whose());
    let volumes = volumes.map_err(|source| failed("list volumes", &listing.user, source))?;
    let answer = Json(VolumeListResponse { volumes }).into_response();
    copy::answer(&app.limits, &listing.sender, answer)
}

/// Get the status of a volume.
#[utoipa::path(
    get, path = "/volumes/{volume_id}", operation_id = "get_volume_status", tag = "volumes",
    params(("volume_id" = String, Path, description = "The volume.")),
    responses(
        (status = 200, description = "The status of the volume.", body = VolumeStatus),
        (status = 404, description = "The user has no such volume."),
    ),
)]
pub async fn get_volume_status(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    Caller(user): Caller,
) -> ApiResult<Json<VolumeStatus>> {
    let volume = app.executor.volume(&user, &id);
    let volume = volume.map_err(|source| failed("get volume status", &user, source))?;
    volume.map(Json).ok_or_else(|| not_found(&id))
}

/// Delete a volume.
///
/// A volume that tasks use goes when they end; until then its status is `Terminating`, and no new task can use it.
#[utoipa::path(
    delete, path = "/volumes/{volume_id}", operation_id = "delete_volume", tag = "volumes",
    params(("volume_id" = String, Path, description = "The volume.")),
    responses(
        (status = 200, description = "The volume is deleted.", body = VolumeDeleteResponse),
        (status = 404, description = "The user has no such volume."),
    ),
)]
pub async fn delete_volume(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    Caller(user): Caller,
) -> ApiResult<Json<VolumeDeleteResponse>> {
    let _permit = app.limits.change()?;
    let deleted = app.executor.delete_volume(&user, &id).await;
    let deleted = deleted.map_err(|source| failed("delete volume", &user, source))?;
    let used_by = deleted.ok_or_else(|| not_found(&id))?;
    tracing::info!(event = "volume_deleted", volume_id = id, user = %user, ?used_by, "volume deleted");
    let message = match used_by.as_slice() {
        [] => format!("Volume {id} deleted successfully"),
        [task] => format!("Volume {id} is deleted when task {task} ends"),
        tasks => format!("Volume {id} is deleted when tasks {} end", tasks.join(", ")),
    };
    Ok(Json(VolumeDeleteResponse {
        volume_id: id,
        status: "deleted",
        message,
    }))
}

fn not_found(id: &str) -> ApiError {
    ApiError::NotFound(format!("Volume {id} not found"))
}
