//! Handler that streams the changes of tasks.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use executor::{ChangeCursor, Changes, Error, TaskEvent};
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, header};
use serde::Serialize;

use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::EventsRequest;

/// How often to send a comment while nothing changes. Clients take a longer silence for a broken connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A task that is gone.
#[derive(Serialize)]
struct RemovedTask<'a> {
    task_id: &'a str,
    username: &'a str,
}

/// Stream the changes of tasks.
///
/// Server-sent events, so that a client need not poll. `task` has the status of a task that is new or has changed, as
/// JSON; `removed` has the `task_id` and `username` of a task that was stopped or deleted. Without `Last-Event-ID`, or
/// if the server does not know it (anymore), the stream begins with `reset` and one `task` for each task that there is;
/// `synced` follows, and again after each batch of changes. Several changes of a task within a short time, or while the
/// client reads slowly, are sent as one. A comment is sent every 10 seconds. The stream counts as a log stream for the
/// limits of the server.
#[utoipa::path(
    get, path = "/tasks/events", operation_id = "stream_task_events", tag = "tasks",
    params(
        ("all_users" = Option<bool>, Query, description = "Stream the changes of the tasks of all users instead of only the caller's."),
        ("Last-Event-ID" = Option<String>, Header, description = "ID of the last event that the client has received; the stream continues after it."),
    ),
    responses((status = 200, description = "The events, streamed as tasks change.", body = String, content_type = "text/event-stream")),
)]
pub(crate) async fn stream_task_events(State(app): State<AppState>, request: EventsRequest) -> ApiResult<Response> {
    let EventsRequest { scope, since } = request;
    let failed = |source| ApiError::executor("stream the changes of tasks", &scope.user, source);
    app.executor.check_in_sync().map_err(failed)?;
    let permit = app.limits.acquire_log_stream(&scope.user)?;
    let changes = app.executor.task_events(scope.owner().cloned(), since);
    let user = scope.user.to_string();
    let events = changes
        // A client that connects again is told why: the request is answered with 503.
        .take_while(move |changes| std::future::ready(is_ok(changes, &user)))
        .filter_map(async |changes| changes.ok())
        .flat_map(|changes| stream::iter(events(changes)).map(Ok::<Event, Infallible>))
        .take_until(app.stopping.clone().cancelled_owned());
    Ok(event_response(events, permit))
}

fn is_ok(changes: &Result<Changes, Error>, user: &str) -> bool {
    if let Err(error) = changes {
        tracing::warn!(%error, user, "stream of changes ended");
    }
    changes.is_ok()
}

/// A response that streams events and keeps `held` meanwhile.
fn event_response(
    events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
    held: impl Send + 'static,
) -> Response {
    let events = events.map(move |event| {
        let _ = &held;
        event
    });
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    // Tell nginx not to buffer: it would delay events until the buffer is full.
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The events of a batch, made while the client reads them.
fn events(changes: Changes) -> impl Iterator<Item = Event> {
    let reset = changes.is_complete.then(|| Event::default().event("reset").data("{}"));
    let synced = Event::default()
        .event("synced")
        .id(changes.cursor.to_string())
        .data("{}");
    let each = changes.events.into_iter().map(|(cursor, event)| one(cursor, &event));
    reset.into_iter().chain(each).chain([synced])
}

fn one(cursor: ChangeCursor, event: &TaskEvent) -> Event {
    let sent = Event::default().id(cursor.to_string());
    match event {
        TaskEvent::Changed(task) => sent.event("task").data(String::from_utf8_lossy(&task.json)),
        TaskEvent::Removed { task_id, username } => {
            let removed = RemovedTask { task_id, username };
            // Two texts can always be encoded.
            sent.event("removed")
                .data(serde_json::to_string(&removed).unwrap_or_default())
        }
    }
}
