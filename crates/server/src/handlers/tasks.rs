//! Handlers that submit, list, inspect, and stop tasks.

use std::iter;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use executor::{DryRun, Submitted, TaskList};
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::Value;
use task::wire::TaskStatus;
use utoipa::openapi::schema::AdditionalProperties;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::budgeted::budgeted_response;
use super::json::{json_response, with_hash};
use super::list::{list_response, page_response};
use crate::app::AppState;
use crate::conditional::ContentHash;
use crate::error::{ApiError, ApiResult};
use crate::extract::{AuthUser, ListScope, ResourceId, SubmitTask, TaskListRequest};
use crate::telemetry::request::CreatedId;

/// Response to the submission of a task.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskSubmitResponse {
    /// ID of the task.
    task_id: String,
    #[schema(inline)]
    status: SubmittedStatus,
    /// Human-readable result.
    message: String,
}

/// Response to a dry run (`dry_run=true`).
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskDryRunResponse {
    #[schema(inline)]
    status: DryRunStatus,
    /// Human-readable result.
    message: String,
    /// Kubernetes objects that would be created. If there are too many large Jobs, only the first ones are included.
    #[schema(value_type = Vec<KubernetesObject>)]
    manifests: Vec<Value>,
}

/// Always `submitted`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SubmittedStatus {
    Submitted,
}

/// Always `dry_run`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DryRunStatus {
    DryRun,
}

/// Always `stopped`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoppedStatus {
    Stopped,
}

/// A Kubernetes object of any kind, in the OpenAPI document only.
enum KubernetesObject {}

impl PartialSchema for KubernetesObject {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("A Kubernetes object."))
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
            .into()
    }
}

impl ToSchema for KubernetesObject {}

/// Response to a submit request.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(discriminator(property_name = "status", mapping(
    ("submitted" = "#/components/schemas/TaskSubmitResponse"),
    ("dry_run" = "#/components/schemas/TaskDryRunResponse"),
)))]
pub(crate) enum SubmitResponse {
    Submitted(TaskSubmitResponse),
    DryRun(TaskDryRunResponse),
}

/// Response to stopping a task.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskStopResponse {
    /// ID of the task.
    task_id: String,
    #[schema(inline)]
    status: StoppedStatus,
    /// Human-readable result.
    message: String,
}

/// Response to stopping all tasks.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskStopAllResponse {
    /// Number of tasks that were stopped.
    count: usize,
    #[schema(inline)]
    status: StoppedStatus,
    /// Human-readable result.
    message: String,
}

/// Tasks, oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct TaskListResponse {
    tasks: Vec<TaskStatus>,
    /// Pass it as `cursor` to get the next page; null on the last page, and absent without `limit` and `cursor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Submit a task.
///
/// The response is sent after all Kubernetes objects of the task have been created; if one cannot be created, the
/// others are deleted. Repeating a request with the same `Idempotency-Key` returns the existing task. `Warning` headers
/// report fields that have no effect and warnings from Kubernetes. With `dry_run=true`, the task and its first Job are
/// validated as on submission, but nothing is created.
#[utoipa::path(
    post, path = "/tasks/submit", operation_id = "submit_task", tag = "tasks",
    params(
        ("dry_run" = Option<bool>, Query, description = "Validate the task and return its manifests without creating anything."),
        ("Idempotency-Key" = Option<String>, Header, description = "Key that identifies this submission; repeating the request with the same key returns the existing task."),
    ),
    request_body = task::TaskDefinition,
    responses(
        (status = 200, description = "The task was submitted, or is valid in case of a dry run.", body = SubmitResponse),
        (status = 409, description = "The Idempotency-Key was already used for a different task."),
    ),
)]
pub(crate) async fn submit_task(State(app): State<AppState>, submit: SubmitTask) -> ApiResult<Response> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let SubmitTask {
        request,
        dry_run,
        requester,
    } = submit;
    if dry_run {
        let response = dry_run_task(&app, request).await?;
        return budgeted_response(&app.limits, &requester, response);
    }
    let start = std::time::Instant::now();
    let (user, mut warnings) = (request.user.clone(), request.definition.warnings.clone());
    let (name, num_nodes) = (request.definition.name.clone(), request.definition.num_nodes);
    let submitted = app.executor.submit(request).await;
    metrics::histogram!("k8s_cli_submit_seconds").record(start.elapsed().as_secs_f64());
    let Submitted {
        id,
        warnings: kubernetes_warnings,
    } = submitted.map_err(|source| ApiError::executor("submit task", &user, source))?;
    warnings.extend(kubernetes_warnings);
    let name = name.as_ref().map(task::Name::as_str);
    tracing::info!(event = "task_submitted", task_id = id, user = %user, name, num_nodes, "task submitted");
    let body = SubmitResponse::Submitted(TaskSubmitResponse {
        message: format!("Task submitted successfully with ID: {id}"),
        status: SubmittedStatus::Submitted,
        task_id: id.clone(),
    });
    let mut response = with_warnings(&warnings, body);
    response.extensions_mut().insert(CreatedId(id));
    Ok(response)
}

async fn dry_run_task(app: &AppState, request: executor::SubmitRequest) -> ApiResult<Response> {
    let (user, mut warnings) = (request.user.clone(), request.definition.warnings.clone());
    let checked = app.executor.dry_run(request).await;
    let checked = checked.map_err(|source| ApiError::executor("submit task", &user, source))?;
    let body = dry_run_response(checked, &mut warnings);
    Ok(with_warnings(&warnings, SubmitResponse::DryRun(body)))
}

/// The response to a dry run; adds its warnings to `warnings`.
pub(super) fn dry_run_response(checked: DryRun, warnings: &mut Vec<String>) -> TaskDryRunResponse {
    let DryRun {
        objects,
        left_out,
        warnings: placement_warnings,
    } = checked;
    warnings.extend(placement_warnings);
    if left_out > 0 {
        warnings.push(format!(
            "the Jobs of {left_out} more nodes are omitted; they differ only in their rank"
        ));
    }
    TaskDryRunResponse {
        status: DryRunStatus::DryRun,
        message: "Dry run: nothing was created".to_owned(),
        manifests: objects,
    }
}

/// The maximum number of `Warning` headers: HTTP clients reject responses with many headers.
const MAX_WARNING_HEADERS: usize = 32;

/// A response with a `Warning` header per warning.
pub(super) fn with_warnings(warnings: &[String], body: impl Serialize) -> Response {
    let mut response = Json(body).into_response();
    add_warnings(&mut response, warnings);
    response
}

/// Adds a `Warning` header per warning.
pub(super) fn add_warnings(response: &mut Response, warnings: &[String]) {
    let left_out = warnings.len().saturating_sub(MAX_WARNING_HEADERS);
    let more = (left_out > 0).then(|| format!("{left_out} more warnings are omitted"));
    let shown = warnings.iter().take(MAX_WARNING_HEADERS).chain(&more);
    for warning in shown.filter_map(|text| warning_header(text)) {
        response.headers_mut().append(header::WARNING, warning);
    }
}

/// Stop all tasks.
#[utoipa::path(
    post, path = "/tasks/stop", operation_id = "stop_all_tasks", tag = "tasks",
    params(("all_users" = Option<bool>, Query, description = "Stop the tasks of all users instead of only the caller's.")),
    responses((status = 200, description = "The tasks were stopped.", body = TaskStopAllResponse)),
)]
pub(crate) async fn stop_all_tasks(
    State(app): State<AppState>,
    scope: ListScope,
) -> ApiResult<Json<TaskStopAllResponse>> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let stopped = app.executor.stop_all(scope.owner(), &scope.user).await;
    let count = stopped.map_err(|source| ApiError::executor("stop all tasks", &scope.user, source))?;
    let all_users = scope.all_users;
    tracing::info!(event = "all_tasks_stopped", user = %scope.user, all_users, count, "all tasks stopped");
    let scope_suffix = if all_users { " for all users" } else { "" };
    Ok(Json(TaskStopAllResponse {
        count,
        status: StoppedStatus::Stopped,
        message: format!("Stopped {count} tasks{scope_suffix}"),
    }))
}

/// Stop a task.
///
/// Deletes the task; its record and log stay in the archive, if there is one. Its processes receive SIGTERM, then SIGKILL after the grace period of 30
/// seconds, or longer if the task has hooks.
#[utoipa::path(
    post, path = "/tasks/{task_id}/stop", operation_id = "stop_task", tag = "tasks",
    params(("task_id" = String, Path, description = "ID of the task.")),
    responses(
        (status = 200, description = "The task was stopped.", body = TaskStopResponse),
        (status = 404, description = "The user has no task with this ID."),
    ),
)]
pub(crate) async fn stop_task(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Json<TaskStopResponse>> {
    let _permit = app.limits.acquire_kubernetes_call()?;
    let stopped = app.executor.stop(&user, &id).await;
    if !stopped.map_err(|source| ApiError::executor("stop task", &user, source))? {
        return Err(not_found(&id));
    }
    tracing::info!(event = "task_stopped", task_id = id, user = %user, "task stopped");
    Ok(Json(TaskStopResponse {
        message: format!("Task {id} stopped successfully"),
        status: StoppedStatus::Stopped,
        task_id: id,
    }))
}

/// List tasks.
#[utoipa::path(
    get, path = "/tasks", operation_id = "list_tasks", tag = "tasks",
    params(
        ("all_users" = Option<bool>, Query, description = "List the tasks of all users instead of only the caller's."),
        ("status" = Option<String>, Query, description = "Return only tasks in this state: `pending`, `running`, `completed`, or `failed`; several are separated by commas."),
        ("name" = Option<String>, Query, description = "Return only tasks whose name matches this pattern, in which `*` and `?` stand for other characters."),
        ("limit" = Option<u32>, Query, description = "Maximum number of tasks to return. Default: all."),
        ("cursor" = Option<String>, Query, description = "Return the page after the one with this `next_cursor`."),
    ),
    responses((status = 200, description = "The tasks, oldest first.", body = TaskListResponse)),
)]
pub(crate) async fn list_tasks(State(app): State<AppState>, request: TaskListRequest) -> ApiResult<Response> {
    let TaskListRequest { scope, filter } = request;
    let list = app.executor.list_tasks(scope.owner(), &filter);
    let TaskList { tasks, next_cursor } =
        list.map_err(|source| ApiError::executor("list tasks", &scope.user, source))?;
    let cursor_hash = next_cursor
        .iter()
        .map(|cursor| ContentHash::of_body(cursor.as_bytes()).value());
    let hash = ContentHash::of_parts(tasks.iter().map(|task| task.json_hash).chain(cursor_hash));
    let items = tasks.iter().map(|task| task.json.clone()).collect();
    let is_page = filter.limit.is_some() || filter.cursor.is_some();
    let response = match is_page {
        true => page_response("tasks", items, next_cursor.as_deref()),
        false => list_response("tasks", items),
    };
    Ok(with_hash(response, hash))
}

/// Get the status of a task.
#[utoipa::path(
    get, path = "/tasks/{task_id}", operation_id = "get_task_status", tag = "tasks",
    params(("task_id" = String, Path, description = "ID of the task.")),
    responses(
        (status = 200, description = "The status of the task and of each of its nodes.", body = TaskStatus),
        (status = 404, description = "The user has no task with this ID."),
    ),
)]
pub(crate) async fn get_task_status(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    AuthUser(user): AuthUser,
) -> ApiResult<Response> {
    let task = app.executor.task(&user, &id);
    match task.map_err(|source| ApiError::executor("get task status", &user, source))? {
        Some(task) => {
            let hash = ContentHash::of_parts(iter::once(task.json_hash));
            Ok(with_hash(json_response(task.json.clone().into()), hash))
        }
        None => Err(not_found(&id)),
    }
}

pub(super) fn not_found(id: &str) -> ApiError {
    ApiError::NotFound(format!("Task {id} not found"))
}

/// Formats a `Warning` header as kube-apiserver does, in UTF-8: <https://kubernetes.io/blog/2020/09/03/warnings/>.
fn warning_header(text: &str) -> Option<HeaderValue> {
    let line = text.replace(char::is_control, " ");
    let quoted = line.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
}
