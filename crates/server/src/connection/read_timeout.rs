//! Closes connections whose clients send the head of a request too slowly, or stay idle for too long.
//!
//! hyper has one timeout for both, but they serve different purposes: a slow head holds memory, so its limit is short,
//! while proxies and connection pools keep idle connections for a minute or two, and a request that they send at the
//! moment the server closes the connection fails.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::activity::Activity;
use crate::limits::HEAD_TIMEOUT;

/// A stream that fails with `TimedOut` if the head of a request takes longer than [`HEAD_TIMEOUT`], or no request begins
/// within the idle timeout. While a request is being answered, other timeouts apply.
pub(crate) struct ReadTimeoutStream<S> {
    stream: S,
    activity: Activity,
    idle_timeout: Duration,
    waiting_for: WaitingFor,
    /// Number of requests that had begun when `waiting_for` was last set to `Head`.
    begun: u64,
    /// When the head must be complete, or the next request must begin.
    deadline: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitingFor {
    /// The rest of a head or, on a new connection, its first byte.
    Head,
    /// The end of a response.
    Response,
    /// The first byte of the next request.
    Request,
}

impl<S> ReadTimeoutStream<S> {
    pub(crate) fn new(stream: S, activity: Activity, idle_timeout: Duration) -> Self {
        Self {
            stream,
            begun: activity.begun(),
            activity,
            idle_timeout,
            waiting_for: WaitingFor::Head,
            deadline: Box::pin(tokio::time::sleep(HEAD_TIMEOUT)),
        }
    }

    fn wait_for(&mut self, what: WaitingFor, limit: Duration) {
        self.waiting_for = what;
        self.deadline.as_mut().reset(Instant::now() + limit);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadTimeoutStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if self.activity.begun() != self.begun {
            // The head that was waited for is complete.
            self.begun = self.activity.begun();
            self.waiting_for = WaitingFor::Response;
        }
        if self.activity.poll_answering(context) {
            return read;
        }
        match read {
            Poll::Ready(_) => {
                if into.filled().len() > before && self.waiting_for != WaitingFor::Head {
                    self.wait_for(WaitingFor::Head, HEAD_TIMEOUT);
                }
                read
            }
            Poll::Pending => {
                if self.waiting_for == WaitingFor::Response {
                    let limit = self.idle_timeout;
                    self.wait_for(WaitingFor::Request, limit);
                }
                ready!(self.deadline.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadTimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::{Activity, ReadTimeoutStream};
    use crate::limits::HEAD_TIMEOUT;

    const IDLE: Duration = Duration::from_secs(100);

    /// How long each response takes.
    const WORK: Duration = Duration::from_secs(200);

    /// Serves a connection with hyper, as the listener does; returns the other end.
    fn serve() -> DuplexStream {
        let (client, server) = duplex(4096);
        let activity = Activity::default();
        let stream = ReadTimeoutStream::new(server, activity.clone(), IDLE);
        let service = service_fn(move |request: Request<Incoming>| {
            let open = activity.begin(&request);
            async move {
                sleep(WORK).await;
                Ok::<_, Infallible>(open.track(Response::new(Full::new(Bytes::from_static(b"done")))))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(connection.await) });
        client
    }

    /// Sends a request and reads its response.
    async fn ask(client: &mut DuplexStream) {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"done") {
            assert_ne!(client.read_buf(&mut response).await.unwrap(), 0, "closed");
        }
    }

    /// How long the server waits until it closes the connection.
    async fn time_to_close(client: &mut DuplexStream) -> Duration {
        let start = Instant::now();
        assert_eq!(
            client.read_u8().await.unwrap_err().kind(),
            std::io::ErrorKind::UnexpectedEof
        );
        start.elapsed()
    }

    fn assert_about(elapsed: Duration, limit: Duration) {
        let slack = Duration::from_secs(1);
        assert!(elapsed <= limit && elapsed + slack > limit, "{elapsed:?} {limit:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_must_send_a_head_in_time() {
        assert_about(time_to_close(&mut serve()).await, HEAD_TIMEOUT);
        let mut client = serve();
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_about(time_to_close(&mut client).await, HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_be_idle_between_requests_for_longer_than_a_head_may_take() {
        let mut client = serve();
        for _ in 0..3 {
            ask(&mut client).await;
            sleep(IDLE - Duration::from_secs(1)).await;
        }
        ask(&mut client).await;
        assert_about(time_to_close(&mut client).await, IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_must_be_complete_in_time_too() {
        let mut client = serve();
        ask(&mut client).await;
        sleep(IDLE / 2).await;
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_about(time_to_close(&mut client).await, HEAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_arrives_byte_by_byte_gets_no_more_time() {
        let mut client = serve();
        ask(&mut client).await;
        let start = Instant::now();
        while client.write_all(b"G").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        assert_about(start.elapsed(), HEAD_TIMEOUT + Duration::from_secs(1));
    }
}
