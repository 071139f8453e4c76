//! Handlers for the outputs of tasks: nodes send them, and users find them.

use archive::RecordKey;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use executor::Purpose;
use files::{Manifest, ManifestHash};
use http::HeaderMap;
use task::UserName;

use super::files::{
    ContentsUploadResponse, FileSetResponse, FileSetUploadResponse, describe, parse_id, receive_contents,
    receive_manifest,
};
use super::task_files::{ContentsRequest, access_of_task, send_contents, send_manifest};
use super::tasks::not_found;
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Anonymous, AuthUser, ResourceId, read_bytes};

/// Upload the manifest of the outputs of a task.
///
/// For the nodes of the task, with its token. The ID is the SHA-256 of the manifest. If contents are missing, upload them,
/// then the manifest again; the file set then has the outputs of the task, instead of those of an earlier attempt. If it has
/// no entries, the task has no outputs.
#[utoipa::path(
    put, path = "/outputs/{file_set_id}", operation_id = "put_outputs", tag = "files",
    params(("file_set_id" = String, Path, description = "ID of the file set.")),
    request_body(content = String, content_type = "application/octet-stream", description = "The manifest, a line of JSON for each entry."),
    responses((status = 200, description = "What is missing, if anything.", body = FileSetUploadResponse)),
)]
pub(crate) async fn put_outputs(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    request: Request,
) -> ApiResult<Json<FileSetUploadResponse>> {
    let access = access_of_task(&app, request.headers(), purpose(request.headers())).await?;
    let (user, set) = (access.user, parse_id(&id)?);
    let body = read_bytes(&app, request, &user).await?;
    let missing = receive_manifest(&app, &user, set, body).await?;
    if missing.is_empty() {
        let has_none = set == Manifest::empty().hash();
        let failed = |source| ApiError::executor("keep outputs", &user, source);
        let task = app
            .executor
            .outputs_key(&user, access.task.as_str())
            .await
            .map_err(failed)?;
        // Its pods may be known before it is.
        let task = task.ok_or_else(|| ApiError::Unavailable("the task is not known yet; try again".to_owned()))?;
        let kept = match has_none {
            true => app.files.delete_outputs(user.as_str(), &task).await,
            false => app.files.put_outputs(user.as_str(), &task, &set).await,
        };
        kept.map_err(|source| failed(source.into()))?;
        tracing::info!(event = "outputs_kept", user = %user, task = %access.task.as_str(), has_none, "outputs kept");
    }
    Ok(Json(FileSetUploadResponse::new(set, &missing)))
}

/// Upload contents of the outputs of a task.
///
/// For the nodes of the task, with its token. The same as `POST /files/contents`.
#[utoipa::path(
    post, path = "/outputs/contents", operation_id = "upload_output_contents", tag = "files",
    request_body(content = String, content_type = "application/octet-stream", description = "The contents."),
    responses((status = 200, description = "The contents are stored.", body = ContentsUploadResponse)),
)]
pub(crate) async fn upload_output_contents(
    State(app): State<AppState>,
    request: Request,
) -> ApiResult<Json<ContentsUploadResponse>> {
    let user = access_of_task(&app, request.headers(), purpose(request.headers()))
        .await?
        .user;
    let body = read_bytes(&app, request, &user).await?;
    receive_contents(&app, &user, &body).await
}

/// Get the outputs of a past or present task.
///
/// `GET /tasks/{task_id}/outputs/manifest` and `POST /tasks/{task_id}/outputs/contents` download them.
#[utoipa::path(
    get, path = "/tasks/{task_id}/outputs", operation_id = "get_outputs", tag = "tasks",
    params(("task_id" = String, Path, description = "ID of the task.")),
    responses(
        (status = 200, description = "The file set with the outputs.", body = FileSetResponse),
        (status = 404, description = "The user has had no task with this ID, or it has kept no outputs."),
    ),
)]
pub(crate) async fn get_outputs(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<FileSetResponse>> {
    let (_, set) = find(&app, &user, &id).await?;
    let found = describe(&app, &user, set).await?;
    found.map(Json).ok_or_else(|| nothing_kept(&id))
}

/// Delete the outputs of a past or present task.
///
/// Contents that no other file set uses are deleted within two days.
#[utoipa::path(
    delete, path = "/tasks/{task_id}/outputs", operation_id = "delete_outputs", tag = "tasks",
    params(("task_id" = String, Path, description = "ID of the task.")),
    responses(
        (status = 200, description = "The file set that had the outputs.", body = FileSetResponse),
        (status = 404, description = "The user has had no task with this ID, or it has kept no outputs."),
    ),
)]
pub(crate) async fn delete_outputs(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<FileSetResponse>> {
    let (task, set) = find(&app, &user, &id).await?;
    let found = describe(&app, &user, set).await;
    // Also if the file set is gone or damaged: what names it would stay.
    let deleted = app.files.delete_outputs(user.as_str(), &task).await;
    deleted.map_err(|source| ApiError::executor("delete outputs", &user, source.into()))?;
    found?.map(Json).ok_or_else(|| nothing_kept(&id))
}

/// Get the manifest of the outputs of a past or present task.
#[utoipa::path(
    get, path = "/tasks/{task_id}/outputs/manifest", operation_id = "download_output_manifest", tag = "tasks",
    params(("task_id" = String, Path, description = "ID of the task.")),
    responses(
        (status = 200, description = "The manifest, a line of JSON for each entry.", body = String, content_type = "application/octet-stream"),
        (status = 404, description = "The user has had no task with this ID, or it has kept no outputs."),
    ),
)]
pub(crate) async fn download_output_manifest(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
    Anonymous(requester): Anonymous,
) -> ApiResult<Response> {
    let (_, set) = find(&app, &user, &id).await?;
    send_manifest(&app, &requester, &user, &set).await
}

/// Get contents of the outputs of a past or present task.
///
/// The response has the contents in the order of the request, each a 4-byte big-endian length followed by its bytes. A
/// request may ask for 1,000 contents of 8 MiB in all.
#[utoipa::path(
    post, path = "/tasks/{task_id}/outputs/contents", operation_id = "download_output_contents", tag = "tasks",
    params(("task_id" = String, Path, description = "ID of the task.")),
    request_body = ContentsRequest,
    responses(
        (status = 200, description = "The contents.", body = String, content_type = "application/octet-stream"),
        (status = 404, description = "The user has had no task with this ID, it has kept no outputs, or the first content is no longer stored."),
    ),
)]
pub(crate) async fn download_output_contents(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
    Anonymous(requester): Anonymous,
    request: Request,
) -> ApiResult<Response> {
    let (_, set) = find(&app, &user, &id).await?;
    send_contents(&app, &requester, (user, set), request).await
}

/// What a node that sends outputs uses its token for.
fn purpose(headers: &HeaderMap) -> Purpose {
    let attempt = headers
        .get(helper::ATTEMPT_HEADER)
        .and_then(|value| value.to_str().ok());
    Purpose::Keep {
        attempt: attempt.and_then(|attempt| attempt.parse().ok()),
    }
}

/// A task of the user, and the file set with its outputs.
async fn find(app: &AppState, user: &UserName, id: &str) -> ApiResult<(RecordKey, ManifestHash)> {
    let failed = |source| ApiError::executor("get outputs", user, source);
    let task = app.executor.outputs_key(user, id).await.map_err(failed)?;
    let task = task.ok_or_else(|| not_found(id))?;
    let set = app.files.outputs(user.as_str(), &task).await;
    let set = set.map_err(|source| failed(source.into()))?;
    Ok((task, set.ok_or_else(|| nothing_kept(id))?))
}

fn nothing_kept(id: &str) -> ApiError {
    ApiError::NotFound(format!("Task {id} has kept no outputs"))
}
