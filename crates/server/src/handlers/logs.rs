//! The log of a task, as one stream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use executor::LogCut;
use futures::{Stream, StreamExt};
use http::{HeaderValue, header};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::tasks::{failed, not_found};
use crate::app::AppState;
use crate::error::{ApiError, ApiResult};
use crate::extract::{LogRequest, ResourceId};
use crate::limits::StreamPermit;

/// Stream the log of a task.
///
/// All nodes in one stream of bytes, from before the first pod exists to the end of the last one. Lines of a task with
/// more than one node start with `node-{rank} | `.
#[utoipa::path(
    get, path = "/tasks/{task_id}/logs", operation_id = "stream_task_logs", tag = "tasks",
    params(
        ("task_id" = String, Path, description = "The task."),
        ("follow" = Option<bool>, Query, description = "Go on until the task ends (the default); else end with what is there."),
        ("tail" = Option<u32>, Query, description = "Only so many last lines of each node."),
        ("since" = Option<String>, Query, description = "Only what was written since: how long ago, such as 10m, or an RFC 3339 time.", example = "10m"),
        ("timestamps" = Option<bool>, Query, description = "Start each line with its time."),
        ("node" = Option<u32>, Query, description = "Only the node of this rank."),
    ),
    responses(
        (status = 200, description = "The log, as it is written.", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 404, description = "The user has no such task, or the task no such node."),
    ),
)]
pub async fn stream_task_logs(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    request: LogRequest,
) -> ApiResult<Response> {
    let LogRequest { user, options } = request;
    let task = app.executor.task(&user, &id);
    let view = task.map_err(|source| failed("stream task logs", &user, source))?;
    let view = view.ok_or_else(|| not_found(&id))?;
    if let Some(node) = options.node.filter(|node| *node >= view.num_nodes) {
        let nodes = view.num_nodes;
        return Err(ApiError::NotFound(format!(
            "Task {id} has no node {node}; it has {nodes}, counted from 0"
        )));
    }
    let permit = app.limits.stream(&user)?;
    let stream = app.executor.logs(&user, &id, &options);
    let stream = stream.map_err(|source| failed("stream task logs", &user, source))?;
    let stream = stream.ok_or_else(|| not_found(&id))?;
    let stream = Measured {
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
    // A proxy that buffers would make a live log wait for more.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// A log stream that is counted, and logged when it ends.
struct Measured {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, LogCut>> + Send>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    start: Instant,
    bytes: u64,
    id: String,
    user: String,
    _permit: StreamPermit,
}

/// The stream ends before the log has. The connection is cut, so that a client does not take it for the end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the server is stopping")]
    Stopping,
    #[error(transparent)]
    Log(#[from] LogCut),
}

impl Stream for Measured {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stopping.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Cut::Stopping)));
        }
        let next = std::task::ready!(self.stream.poll_next_unpin(context));
        match &next {
            Some(Ok(bytes)) => self.bytes += bytes.len() as u64,
            Some(Err(cut)) => tracing::warn!(task_id = self.id, user = self.user, %cut, "a log stream is cut"),
            None => {}
        }
        Poll::Ready(next.map(|piece| piece.map_err(Cut::from)))
    }
}

impl Drop for Measured {
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
