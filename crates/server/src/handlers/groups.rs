//! Handlers for groups of tasks: pipelines and sweeps.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use executor::SubmittedGroup;
use serde::Serialize;
use utoipa::ToSchema;

use super::budgeted::budgeted_response;
use super::cancel::CancelledStatus;
use super::json::with_hash;
use super::list::list_response;
use super::tasks::{
    StoppedStatus, SubmittedStatus, TaskDryRunResponse, TaskListResponse, dry_run_response, with_warnings,
};
use crate::app::AppState;
use crate::conditional::ContentHash;
use crate::error::{ApiError, ApiResult};
use crate::extract::{AuthUser, ResourceId, SubmitGroup};
use crate::telemetry::request::CreatedId;

/// Response to the submission of a group.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupCreatedResponse {
    /// ID of the group.
    group_id: String,
    /// IDs of its tasks, in order.
    task_ids: Vec<String>,
    #[schema(inline)]
    status: SubmittedStatus,
    /// Human-readable result.
    message: String,
}

/// Response to a request to submit a group.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(discriminator(property_name = "status", mapping(
    ("submitted" = "#/components/schemas/GroupCreatedResponse"),
    ("dry_run" = "#/components/schemas/TaskDryRunResponse"),
)))]
pub(crate) enum GroupSubmitResponse {
    Submitted(GroupCreatedResponse),
    DryRun(TaskDryRunResponse),
}

/// Response to stopping a group.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupStopResponse {
    /// ID of the group.
    group_id: String,
    /// Number of tasks that were stopped.
    count: usize,
    #[schema(inline)]
    status: StoppedStatus,
    /// Human-readable result.
    message: String,
}

/// Response to canceling a group.
#[derive(Serialize, ToSchema)]
pub(crate) struct GroupCancelResponse {
    /// ID of the group.
    group_id: String,
    /// Number of tasks that were canceled.
    count: usize,
    #[schema(inline)]
    status: CancelledStatus,
    /// Human-readable result.
    message: String,
}

/// Submit a group of tasks.
///
/// A pipeline (`execution: serial`) runs its tasks one after the other; the first failure cancels those after it. A
/// sweep (`execution: parallel`) runs them side by side, at most `max_parallel` at the same time. All tasks are validated
/// before any of them is created, and all are created, or none. Repeating a request with the same `Idempotency-Key`
/// returns the existing group. With `dry_run=true`, nothing is created.
#[utoipa::path(
    post, path = "/groups/submit", operation_id = "submit_group", tag = "groups",
    params(
        ("dry_run" = Option<bool>, Query, description = "Validate the tasks and return their manifests without creating anything."),
        ("Idempotency-Key" = Option<String>, Header, description = "Key that identifies this submission; repeating the request with the same key returns the existing group."),
    ),
    request_body = task::GroupDefinition,
    responses(
        (status = 200, description = "The group was submitted, or is valid in case of a dry run.", body = GroupSubmitResponse),
        (status = 409, description = "The Idempotency-Key was already used for a different group or task."),
    ),
)]
pub(crate) async fn submit_group(State(app): State<AppState>, submit: SubmitGroup) -> ApiResult<Response> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let SubmitGroup {
        request,
        dry_run,
        requester,
    } = submit;
    let (user, mut warnings) = (request.user.clone(), request.definition.warnings());
    let failed = |source| ApiError::executor("submit group", &user, source);
    if dry_run {
        let checked = app.executor.dry_run_group(request).await.map_err(failed)?;
        let body = GroupSubmitResponse::DryRun(dry_run_response(checked, &mut warnings));
        return budgeted_response(&app.limits, &requester, with_warnings(&warnings, body));
    }
    let SubmittedGroup {
        id,
        task_ids,
        warnings: kubernetes_warnings,
    } = app.executor.submit_group(request).await.map_err(failed)?;
    warnings.extend(kubernetes_warnings);
    let tasks = task_ids.len();
    tracing::info!(event = "group_submitted", group_id = id, user = %user, tasks, "group submitted");
    let body = GroupSubmitResponse::Submitted(GroupCreatedResponse {
        message: format!("Group submitted successfully with ID: {id}"),
        status: SubmittedStatus::Submitted,
        group_id: id.clone(),
        task_ids,
    });
    let mut response = with_warnings(&warnings, body);
    response.extensions_mut().insert(CreatedId(id));
    Ok(response)
}

/// Get the tasks of a group, with their status.
#[utoipa::path(
    get, path = "/groups/{group_id}", operation_id = "get_group", tag = "groups",
    params(("group_id" = String, Path, description = "ID of the group.")),
    responses(
        (status = 200, description = "The tasks of the group that were not stopped, in order.", body = TaskListResponse),
        (status = 404, description = "The user has no group with this ID."),
    ),
)]
pub(crate) async fn get_group(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Response> {
    let tasks = app.executor.group(&user, &id);
    let tasks = tasks.map_err(|source| ApiError::executor("get group", &user, source))?;
    if tasks.is_empty() {
        return Err(not_found(&id));
    }
    let hash = ContentHash::of_parts(tasks.iter().map(|(_, task)| task.json_hash));
    let items = tasks.iter().map(|(_, task)| task.json.clone()).collect();
    Ok(with_hash(list_response("tasks", items), hash))
}

/// Stop all tasks of a group.
///
/// Deletes the tasks with their status and logs.
#[utoipa::path(
    post, path = "/groups/{group_id}/stop", operation_id = "stop_group", tag = "groups",
    params(("group_id" = String, Path, description = "ID of the group.")),
    responses(
        (status = 200, description = "The tasks were stopped.", body = GroupStopResponse),
        (status = 404, description = "The user has no group with this ID."),
    ),
)]
pub(crate) async fn stop_group(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<GroupStopResponse>> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let stopped = app.executor.stop_group(&user, &id).await;
    let stopped = stopped.map_err(|source| ApiError::executor("stop group", &user, source))?;
    let count = stopped.ok_or_else(|| not_found(&id))?;
    tracing::info!(event = "group_stopped", group_id = id, user = %user, count, "group stopped");
    Ok(Json(GroupStopResponse {
        message: format!("Stopped {count} tasks of group {id}"),
        status: StoppedStatus::Stopped,
        group_id: id,
        count,
    }))
}

/// Cancel the unfinished tasks of a group.
///
/// Ends their nodes and keeps their status and logs. Tasks that have not started never do.
#[utoipa::path(
    post, path = "/groups/{group_id}/cancel", operation_id = "cancel_group", tag = "groups",
    params(("group_id" = String, Path, description = "ID of the group.")),
    responses(
        (status = 200, description = "The tasks were canceled.", body = GroupCancelResponse),
        (status = 404, description = "The user has no group with this ID."),
    ),
)]
pub(crate) async fn cancel_group(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<GroupCancelResponse>> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let cancelled = app.executor.cancel_group(&user, &id).await;
    let cancelled = cancelled.map_err(|source| ApiError::executor("cancel group", &user, source))?;
    let count = cancelled.ok_or_else(|| not_found(&id))?;
    tracing::info!(event = "group_canceled", group_id = id, user = %user, count, "group canceled");
    Ok(Json(GroupCancelResponse {
        message: format!("Canceled {count} tasks of group {id}"),
        status: CancelledStatus::Cancelled,
        group_id: id,
        count,
    }))
}

fn not_found(id: &str) -> ApiError {
    ApiError::NotFound(format!("Group {id} not found"))
}
