//! Handlers that cancel tasks.

use axum::Json;
use axum::extract::State;
use executor::CancelOutcome;
use serde::Serialize;
use utoipa::ToSchema;

use super::tasks::not_found;
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{AuthUser, ListScope, ResourceId};

/// Always `cancelled`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CancelledStatus {
    Cancelled,
}

/// `cancelled`, or `already_finished` if there was nothing left to cancel.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CancelStatus {
    Cancelled,
    AlreadyFinished,
}

/// Response to canceling a task.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskCancelResponse {
    /// ID of the task.
    task_id: String,
    #[schema(inline)]
    status: CancelStatus,
    /// Human-readable result.
    message: String,
}

/// Response to canceling all tasks.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskCancelAllResponse {
    /// Number of tasks that were canceled.
    count: usize,
    #[schema(inline)]
    status: CancelledStatus,
    /// Human-readable result.
    message: String,
}

/// Cancel a task.
///
/// Ends its nodes and keeps its status and log; the task fails with the reason `Cancelled` and is not retried. Its
/// processes receive SIGTERM, then SIGKILL after the grace period of 30 seconds, or longer if the task has hooks. A
/// finished task stays as it is.
#[utoipa::path(
    post, path = "/tasks/{task_id}/cancel", operation_id = "cancel_task", tag = "tasks",
    params(("task_id" = String, Path, description = "ID of the task.")),
    responses(
        (status = 200, description = "The nodes of the task are ending, or it had finished.", body = TaskCancelResponse),
        (status = 404, description = "The user has no task with this ID."),
        (status = 409, description = "The task changed at the same time. Try again."),
    ),
)]
pub(crate) async fn cancel_task(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<TaskCancelResponse>> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let outcome = app.executor.cancel(&user, &id).await;
    let (status, message) = match outcome.map_err(|source| ApiError::executor("cancel task", &user, source))? {
        CancelOutcome::NotFound => return Err(not_found(&id)),
        CancelOutcome::Cancelled => (CancelStatus::Cancelled, format!("Task {id} canceled")),
        CancelOutcome::AlreadyFinished => (CancelStatus::AlreadyFinished, format!("Task {id} has already finished")),
    };
    if matches!(status, CancelStatus::Cancelled) {
        tracing::info!(event = "task_canceled", task_id = id, user = %user, "task canceled");
    }
    Ok(Json(TaskCancelResponse {
        task_id: id,
        status,
        message,
    }))
}

/// Cancel all unfinished tasks.
#[utoipa::path(
    post, path = "/tasks/cancel", operation_id = "cancel_all_tasks", tag = "tasks",
    params(("all_users" = Option<bool>, Query, description = "Cancel the tasks of all users instead of only the caller's.")),
    responses((status = 200, description = "The tasks were canceled.", body = TaskCancelAllResponse)),
)]
pub(crate) async fn cancel_all_tasks(
    State(app): State<AppState>,
    scope: ListScope,
) -> ApiResult<Json<TaskCancelAllResponse>> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let cancelled = app.executor.cancel_all(scope.owner(), &scope.user).await;
    let count = cancelled.map_err(|source| ApiError::executor("cancel all tasks", &scope.user, source))?;
    let all_users = scope.all_users;
    tracing::info!(event = "all_tasks_canceled", user = %scope.user, all_users, count, "all tasks canceled");
    let scope_suffix = if all_users { " for all users" } else { "" };
    Ok(Json(TaskCancelAllResponse {
        count,
        status: CancelledStatus::Cancelled,
        message: format!("Canceled {count} tasks{scope_suffix}"),
    }))
}
