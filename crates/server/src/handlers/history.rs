//! Handlers that list and inspect past tasks, together with the present ones.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::Serialize;
use task::record::{HistoryPage, TaskRecord, UsageReport};

use super::json::pollable_response;
use super::logs::{check_node, log_response};
use super::tasks::add_warnings;
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{AuthUser, HistoryRequest, LogRequest, ResourceId, UsageRequest};

/// Said while the index is built.
const INCOMPLETE: &str = "the server is still reading its archive; older tasks may be missing";

/// List past and present tasks.
///
/// Newest first. Past tasks are kept if the server has an archive, also after they were stopped or deleted.
#[utoipa::path(
    get, path = "/history", operation_id = "list_history", tag = "history",
    params(
        ("status" = Option<String>, Query, description = "Return only tasks in this state: `pending`, `running`, `completed`, or `failed`; several are separated by commas."),
        ("name" = Option<String>, Query, description = "Return only tasks whose name matches this pattern, in which `*` and `?` stand for other characters."),
        ("user" = Option<String>, Query, description = "Return the tasks of this user instead of the caller's."),
        ("all_users" = Option<bool>, Query, description = "Return the tasks of all users instead of only the caller's."),
        ("since" = Option<String>, Query, description = "Return only tasks that were submitted within a duration, such as `7d`, or at or after an RFC 3339 timestamp."),
        ("until" = Option<String>, Query, description = "Return only tasks that were submitted before a duration ago, such as `1d`, or before an RFC 3339 timestamp."),
        ("q" = Option<String>, Query, description = "Return only tasks with this text in their name or message; case is ignored."),
        ("limit" = Option<u32>, Query, description = "Number of tasks to return: 100 by default, at most 1000."),
        ("cursor" = Option<String>, Query, description = "Return the page after the one with this `next_cursor`."),
    ),
    responses((status = 200, description = "A page of tasks.", body = HistoryPage)),
)]
pub(crate) async fn list_history(State(app): State<AppState>, request: HistoryRequest) -> ApiResult<Response> {
    let HistoryRequest { user, filter } = request;
    let page = app.executor.history(filter).await;
    let page = page.map_err(|source| ApiError::executor("list past tasks", &user, source))?;
    pollable_with_warnings(&incomplete_warning(&app), &page)
}

fn pollable_with_warnings(warnings: &[String], body: &impl Serialize) -> ApiResult<Response> {
    let mut response = pollable_response(body)?;
    add_warnings(&mut response, warnings);
    Ok(response)
}

fn incomplete_warning(app: &AppState) -> Vec<String> {
    let is_incomplete = app.executor.is_history_incomplete();
    is_incomplete.then(|| INCOMPLETE.to_owned()).into_iter().collect()
}

/// Sum what past and present tasks used.
///
/// What nodes requested, times how long their containers ran. Tasks that run are counted up to now. Tasks without a
/// request for a resource count as using none of it.
#[utoipa::path(
    get, path = "/usage", operation_id = "get_usage", tag = "history",
    params(
        ("user" = Option<String>, Query, description = "Sum the tasks of this user instead of the caller's."),
        ("all_users" = Option<bool>, Query, description = "Sum the tasks of each user instead of only the caller's."),
        ("since" = Option<String>, Query, description = "Count only tasks that were submitted within a duration, such as `30d`, or at or after an RFC 3339 timestamp."),
        ("until" = Option<String>, Query, description = "Count only tasks that were submitted before a duration ago, such as `1d`, or before an RFC 3339 timestamp."),
    ),
    responses((status = 200, description = "What the tasks used, by user.", body = UsageReport)),
)]
pub(crate) async fn get_usage(State(app): State<AppState>, request: UsageRequest) -> ApiResult<Response> {
    let UsageRequest { user, filter } = request;
    let report = app.executor.usage(filter).await;
    let report = report.map_err(|source| ApiError::executor("sum what tasks used", &user, source))?;
    pollable_with_warnings(&incomplete_warning(&app), &report)
}

/// Get the record of a past or present task.
#[utoipa::path(
    get, path = "/history/{task_id}", operation_id = "get_record", tag = "history",
    params(("task_id" = String, Path, description = "ID of the task.")),
    responses(
        (status = 200, description = "What is known about the task.", body = TaskRecord),
        (status = 404, description = "The user has had no task with this ID, or its record was not kept."),
    ),
)]
pub(crate) async fn get_record(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Response> {
    let record = app.executor.record(&user, &id).await;
    let record = record.map_err(|source| ApiError::executor("get the record of a task", &user, source))?;
    let record = record.ok_or_else(|| not_kept(&app, &id))?;
    pollable_response(&record)
}

/// Stream the log of a past or present task.
///
/// The same as `/tasks/{task_id}/logs`, also after the task was stopped or deleted.
#[utoipa::path(
    get, path = "/history/{task_id}/logs", operation_id = "stream_record_logs", tag = "history",
    params(
        ("task_id" = String, Path, description = "ID of the task."),
        ("follow" = Option<bool>, Query, description = "Stream new output until the task finishes (default). If false, return the output so far."),
        ("tail" = Option<u32>, Query, description = "Number of recent lines to return for each node."),
        ("since" = Option<String>, Query, description = "Return only output that is newer than a duration, such as `10m` or `1h30m`, or an RFC 3339 timestamp, such as `2026-11-23T15:30:00Z`."),
        ("timestamps" = Option<bool>, Query, description = "Prefix each line with its timestamp."),
        ("node" = Option<u32>, Query, description = "Return only the log of the node with this rank."),
    ),
    responses(
        (status = 200, description = "The log, streamed as it is written.", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 404, description = "The user has had no task with this ID, or the task has no node with this rank."),
    ),
)]
pub(crate) async fn stream_record_logs(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    request: LogRequest,
) -> ApiResult<Response> {
    let LogRequest { user, options } = request;
    let failed = |source| ApiError::executor("stream the log of a past task", &user, source);
    let record = app.executor.record(&user, &id).await.map_err(failed)?;
    let record = record.ok_or_else(|| not_kept(&app, &id))?;
    check_node(&id, record.task.metadata.num_nodes, &options)?;
    let permit = app.limits.acquire_log_stream(&user)?;
    if let Some(stream) = app.executor.logs(&user, &id, &options).map_err(failed)? {
        return Ok(log_response(&app, &user, id, permit, stream));
    }
    let log = app.executor.archived_logs(&user, &id, &options).await.map_err(failed)?;
    let log = log.ok_or_else(|| not_kept(&app, &id))?;
    let mut response = log_response(&app, &user, id, permit, log.text);
    if log.is_complete {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
        headers.append(header::VARY, HeaderValue::from_static("x-user"));
    }
    Ok(response)
}

fn not_kept(app: &AppState, id: &str) -> ApiError {
    let hint = if app.executor.has_archive() {
        ""
    } else {
        "; this server keeps no records of deleted tasks because it has no archive"
    };
    ApiError::NotFound(format!("Task {id} not found{hint}"))
}
