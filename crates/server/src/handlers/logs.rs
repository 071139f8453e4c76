//! Handler that streams the log of a task.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use executor::{LogOptions, LogTruncated};
use futures::{Stream, StreamExt};
use http::{HeaderValue, header};
use task::UserName;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::tasks::not_found;
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{LogRequest, ResourceId};
use crate::limits::LogStreamPermit;

/// Stream the log of a task.
///
/// Streams the output of all nodes together, from before the first pod exists until the last one terminates. If the
/// task has more than one node, each line starts with `node-{rank} | `.
#[utoipa::path(
    get, path = "/tasks/{task_id}/logs", operation_id = "stream_task_logs", tag = "tasks",
    params(
        ("task_id" = String, Path, description = "ID of the task."),
        ("follow" = Option<bool>, Query, description = "Stream new output until the task finishes (default). If false, return the output so far; `/docs` needs that, because it shows a response only when it is complete."),
        ("tail" = Option<u32>, Query, description = "Number of recent lines to return for each node."),
        ("since" = Option<String>, Query, description = "Return only output that is newer than a duration, such as `10m` or `1h30m`, or an RFC 3339 timestamp, such as `2026-11-23T15:30:00Z`."),
        ("timestamps" = Option<bool>, Query, description = "Prefix each line with its timestamp."),
        ("node" = Option<u32>, Query, description = "Return only the log of the node with this rank."),
    ),
    responses(
        (status = 200, description = "The log, streamed as it is written.", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 404, description = "The user has no task with this ID, or the task has no node with this rank."),
    ),
)]
pub(crate) async fn stream_task_logs(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    request: LogRequest,
) -> ApiResult<Response> {
    let LogRequest { user, options } = request;
    let task = app.executor.task(&user, &id);
    let view = task.map_err(|source| ApiError::executor("stream task logs", &user, source))?;
    let view = view.ok_or_else(|| not_found(&id))?;
    check_node(&id, view.num_nodes, &options)?;
    let permit = app.limits.acquire_log_stream(&user)?;
    let stream = app.executor.logs(&user, &id, &options);
    let stream = stream.map_err(|source| ApiError::executor("stream task logs", &user, source))?;
    let stream = stream.ok_or_else(|| not_found(&id))?;
    Ok(log_response(&app, &user, id, permit, stream))
}

/// Checks that the task has the node whose log is requested.
pub(super) fn check_node(id: &str, nodes: u32, options: &LogOptions) -> ApiResult<()> {
    match options.node.filter(|node| *node >= nodes) {
        None => Ok(()),
        Some(node) => Err(ApiError::NotFound(format!(
            "Task {id} has no node {node}; it has {nodes} node(s), numbered from 0"
        ))),
    }
}

/// A response that streams a log.
pub(super) fn log_response(
    app: &AppState,
    user: &UserName,
    id: String,
    permit: LogStreamPermit,
    stream: impl Stream<Item = Result<Bytes, LogTruncated>> + Send + 'static,
) -> Response {
    let stream = InstrumentedStream {
        stream: stream.boxed(),
        stopping: Box::pin(app.stopping.clone().cancelled_owned()),
        start: Instant::now(),
        bytes: 0,
        id,
        user: user.to_string(),
        _permit: permit,
    };
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    // Tell nginx not to buffer: it would delay a live log until the buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A log stream that counts its bytes, ends when the server stops, and writes a log line when it is dropped.
struct InstrumentedStream {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, LogTruncated>> + Send>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    start: Instant,
    bytes: u64,
    id: String,
    user: String,
    _permit: LogStreamPermit,
}

/// The stream ended before the log did. As an error of the body, it aborts the connection, so that the client does not
/// mistake it for the end of the log.
#[derive(Debug, thiserror::Error)]
enum StreamInterrupted {
    #[error("the server is stopping")]
    Stopping,
    #[error(transparent)]
    Log(#[from] LogTruncated),
}

impl Stream for InstrumentedStream {
    type Item = Result<Bytes, StreamInterrupted>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Check this first: a task that writes without pause must not delay the shutdown.
        if self.stopping.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(StreamInterrupted::Stopping)));
        }
        let next = std::task::ready!(self.stream.poll_next_unpin(context));
        match &next {
            Some(Ok(bytes)) => self.bytes += bytes.len() as u64,
            Some(Err(cut)) => tracing::warn!(task_id = self.id, user = self.user, %cut, "log stream interrupted"),
            None => {}
        }
        Poll::Ready(next.map(|piece| piece.map_err(StreamInterrupted::from)))
    }
}

impl Drop for InstrumentedStream {
    fn drop(&mut self) {
        let duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (task_id, user, bytes) = (&self.id, &self.user, self.bytes);
        tracing::info!(
            event = "log_stream_ended",
            task_id,
            user,
            bytes,
            duration_ms,
            "log stream ended"
        );
    }
}
