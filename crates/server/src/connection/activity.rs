//! Tracks the requests of a connection, so that its stream knows what the connection is waiting for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};

use crate::held_body::HeldBody;

/// The requests of one connection. HTTP/1 serves them one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    /// Number of requests whose head was received.
    begun: AtomicU64,
    /// Number of requests whose response was sent or abandoned.
    ended: AtomicU64,
    /// Whether the end of the connection is the end of the current response.
    is_close_delimited: AtomicBool,
    /// Whether the body of the current request was dropped before its end.
    has_unread_body: AtomicBool,
    /// The task that waits for the end of a request.
    waiting: AtomicWaker,
}

/// Counts a request as ended when it is dropped.
#[derive(Debug)]
pub(crate) struct OpenRequest(Activity);

impl Activity {
    /// Counts a request as begun, until the returned value is dropped.
    pub(crate) fn begin<B>(&self, request: &Request<B>) -> OpenRequest {
        // A client of HTTP/1.0 does not know chunks, so a response of unknown length ends with the connection.
        let is_close_delimited = request.version() < Version::HTTP_11;
        self.0.is_close_delimited.store(is_close_delimited, Ordering::Relaxed);
        self.0.has_unread_body.store(false, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.clone())
    }

    /// Records whether the body of the current request is read to its end.
    pub(crate) fn track_body<B: Body>(&self, body: B) -> RequestBody<B> {
        RequestBody {
            body,
            is_read: false,
            activity: self.clone(),
        }
    }

    /// Whether the client may still be sending the body of a request that has been answered.
    pub(crate) fn has_unread_body(&self) -> bool {
        self.0.has_unread_body.load(Ordering::Relaxed)
    }

    /// How many requests have begun so far.
    pub(crate) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered. If so, wakes the task once it has been answered: hyper does not poll the
    /// stream again by itself if it was polled before the response was complete.
    pub(crate) fn poll_answering(&self, context: &Context<'_>) -> bool {
        let is_answering = || self.begun() != self.0.ended.load(Ordering::Acquire);
        if !is_answering() {
            return false;
        }
        self.0.waiting.register(context.waker());
        is_answering()
    }

    /// Whether the client takes the end of the connection for the end of the response.
    pub(crate) fn is_close_delimited(&self) -> bool {
        self.0.is_close_delimited.load(Ordering::Relaxed)
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody<B: Body> {
    body: B,
    is_read: bool,
    activity: Activity,
}

impl<B: Body> Drop for RequestBody<B> {
    fn drop(&mut self) {
        if !self.is_read && !self.body.is_end_stream() {
            self.activity.0.has_unread_body.store(true, Ordering::Relaxed);
        }
    }
}

impl<B: Body + Unpin> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.is_read |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl OpenRequest {
    /// Keeps the request open until the body of its response is sent or abandoned.
    pub(crate) fn track<B>(self, response: Response<B>) -> Response<HeldBody<B, Self>> {
        response.map(|body| HeldBody::new(body, self))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::Release);
        self.0.0.waiting.wake();
    }
}
