//! Handlers that store the files of users, from which tasks are submitted.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use files::{ContentHash, Manifest, ManifestHash, Pack};
use serde::Serialize;
use task::{ErrorDetail, UserName};
use utoipa::ToSchema;

use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{AuthUser, ResourceId, Upload};

/// The limits of a file set.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileLimits {
    /// Number of files, directories, and links.
    max_entries: usize,
    /// Size of all files, in bytes.
    max_bytes: u64,
    /// Size of the manifest, in bytes.
    max_manifest_bytes: usize,
    /// Size of all file sets of a task, packed and compressed, in bytes; null if nodes can fetch larger ones.
    max_packed_bytes: Option<u64>,
}

/// What the server stores of files.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileLimitsResponse {
    /// Limits of each file set.
    limits: FileLimits,
}

/// A file set.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileSetResponse {
    /// ID of the file set.
    files: String,
    /// Number of files, directories, and links.
    entries: usize,
    /// Size of all files, in bytes.
    bytes: u64,
}

/// Response to the upload of a manifest.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileSetUploadResponse {
    /// ID of the file set.
    files: String,
    /// Contents to upload before the manifest is uploaded again; empty if the file set is stored.
    missing: Vec<String>,
}

impl FileSetUploadResponse {
    pub(super) fn new(set: ManifestHash, missing: &[ContentHash]) -> Self {
        Self {
            files: set.to_string(),
            missing: missing.iter().map(ContentHash::to_string).collect(),
        }
    }
}

/// Response to the upload of contents.
#[derive(Serialize, ToSchema)]
pub(crate) struct ContentsUploadResponse {
    /// Number of contents in the request.
    stored: usize,
}

/// Get the limits for files.
#[utoipa::path(
    get, path = "/files", operation_id = "get_file_limits", tag = "files",
    responses((status = 200, description = "The limits.", body = FileLimitsResponse)),
)]
pub(crate) async fn get_file_limits(State(app): State<AppState>, _user: AuthUser) -> Json<FileLimitsResponse> {
    let limits = app.files.limits();
    Json(FileLimitsResponse {
        limits: FileLimits {
            max_entries: limits.max_entries,
            max_bytes: limits.max_total_bytes,
            max_manifest_bytes: limits.max_manifest_bytes,
            max_packed_bytes: app.max_packed_files,
        },
    })
}

/// Get a file set.
#[utoipa::path(
    get, path = "/files/{file_set_id}", operation_id = "get_files", tag = "files",
    params(("file_set_id" = String, Path, description = "ID of the file set.")),
    responses(
        (status = 200, description = "The file set is stored, and tasks can be submitted with it.", body = FileSetResponse),
        (status = 404, description = "The user has not stored this file set."),
    ),
)]
pub(crate) async fn get_files(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<FileSetResponse>> {
    let hash = parse_id(&id)?;
    let found = describe(&app, &user, hash).await?.ok_or_else(|| not_stored(&id))?;
    // The caller is about to submit a task with it.
    let touched = app.files.touch(user.as_str(), &hash).await;
    touched.map_err(|source| ApiError::executor("get files", &user, source.into()))?;
    Ok(Json(found))
}

/// What is known of a file set of a user; `None` if it is not stored.
pub(super) async fn describe(app: &AppState, user: &UserName, set: ManifestHash) -> ApiResult<Option<FileSetResponse>> {
    let found = app.files.manifest(user.as_str(), &set).await;
    let found = found.map_err(|source| ApiError::executor("get files", user, source.into()))?;
    Ok(found.map(|manifest| FileSetResponse {
        files: set.to_string(),
        entries: manifest.entries().len(),
        bytes: manifest.total_bytes(),
    }))
}

/// Upload the manifest of a file set.
///
/// The ID is the SHA-256 of the manifest. If contents are missing, the file set is not stored yet: upload them, then the
/// manifest again.
#[utoipa::path(
    put, path = "/files/{file_set_id}", operation_id = "put_files", tag = "files",
    params(("file_set_id" = String, Path, description = "ID of the file set.")),
    request_body(content = String, content_type = "application/octet-stream", description = "The manifest, a line of JSON for each entry."),
    responses((status = 200, description = "What is missing, if anything.", body = FileSetUploadResponse)),
)]
pub(crate) async fn put_files(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    upload: Upload,
) -> ApiResult<Json<FileSetUploadResponse>> {
    let Upload { user, body } = upload;
    let hash = parse_id(&id)?;
    let missing = receive_manifest(&app, &user, hash, body).await?;
    Ok(Json(FileSetUploadResponse::new(hash, &missing)))
}

/// Checks and stores a manifest, and returns the contents that are missing.
pub(super) async fn receive_manifest(
    app: &AppState,
    user: &UserName,
    hash: ManifestHash,
    body: Bytes,
) -> ApiResult<Vec<ContentHash>> {
    let limits = *app.files.limits();
    let parsed = blocking(move || {
        if ManifestHash::of(&body) != hash {
            return Err("the ID is not the SHA-256 of the manifest".to_owned());
        }
        let parsed = Manifest::parse(&body, &limits).map_err(|error| error.to_string());
        parsed.map(|manifest| (manifest, body))
    });
    let (manifest, body) = parsed.await?.map_err(invalid_body)?;
    store_manifest(app, user, &manifest, (hash, body)).await
}

async fn store_manifest(
    app: &AppState,
    user: &UserName,
    manifest: &Manifest,
    encoded: (ManifestHash, Bytes),
) -> ApiResult<Vec<ContentHash>> {
    let missing = app.files.put_encoded_manifest(user.as_str(), manifest, encoded).await;
    let missing = missing.map_err(|source| ApiError::executor("store files", user, source.into()))?;
    if missing.is_empty() {
        let (entries, bytes) = (manifest.entries().len(), manifest.total_bytes());
        tracing::info!(event = "files_stored", user = %user, entries, bytes, "files stored");
    }
    Ok(missing)
}

/// Upload contents of files.
///
/// The body is a sequence of contents, each a 4-byte big-endian length followed by its bytes: 1 byte to 4 MiB each, and
/// 8 MiB in all.
#[utoipa::path(
    post, path = "/files/contents", operation_id = "upload_contents", tag = "files",
    request_body(content = String, content_type = "application/octet-stream", description = "The contents."),
    responses((status = 200, description = "The contents are stored.", body = ContentsUploadResponse)),
)]
pub(crate) async fn upload_contents(
    State(app): State<AppState>,
    upload: Upload,
) -> ApiResult<Json<ContentsUploadResponse>> {
    let Upload { user, body } = upload;
    receive_contents(&app, &user, &body).await
}

/// Checks and stores contents.
pub(super) async fn receive_contents(
    app: &AppState,
    user: &UserName,
    body: &Bytes,
) -> ApiResult<Json<ContentsUploadResponse>> {
    let pack = Pack::parse(body.clone()).map_err(|error| invalid_body(error.to_string()))?;
    let stored = app.files.put_contents(user.as_str(), pack.collect()).await;
    let stored = stored.map_err(|source| ApiError::executor("store files", user, source.into()))?;
    Ok(Json(ContentsUploadResponse { stored }))
}

/// Hashing and parsing megabytes must not hold up other requests.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> ApiResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::Unavailable("the server is stopping".to_owned()))
}

pub(super) fn parse_id(id: &str) -> ApiResult<ManifestHash> {
    id.parse().map_err(|_| not_stored(id))
}

/// The same words for files of others as for unknown ones.
pub(super) fn not_stored(id: &str) -> ApiError {
    ApiError::NotFound(format!("File set {id} not found"))
}

fn invalid_body(reason: String) -> ApiError {
    let loc = [task::validation::LocItem::from("body")];
    ApiError::Invalid(vec![ErrorDetail::value_error(loc, reason, serde_json::Value::Null)])
}
