//! Ends connections so that clients receive the whole response, and can tell it from an interrupted one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::activity::Activity;
use super::http2_preface;

/// How long, and how much, to read of a request body that nobody wants any more.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_DISCARDED_BYTES: usize = 8 * 1024 * 1024;

/// A TCP stream that ends well in two cases in which the kernel by itself would not:
///
/// - **An interrupted response to HTTP/1.0** resets the connection. Proxies use HTTP/1.0 by default, e.g., nginx, and
///   would pass on a log that was cut off as if it were complete. With HTTP/1.1, the client notices by itself: the last
///   chunk is missing. There, a reset might only destroy data that the client has not read yet. The kernel is told
///   before the response begins, because no code runs if this process is killed.
/// - **A response before the end of the request** does not reset the connection. The kernel resets one that is closed
///   while data arrives. A client that is still sending its body would get an error instead of the response, and a
///   proxy would answer with 502. So after the response, the rest of the body is read and discarded for a while.
pub(crate) struct CloseStream {
    stream: TcpStream,
    activity: Activity,
    /// Whether nothing has been received yet.
    is_new: bool,
    /// Whether the kernel resets the connection when the stream is closed.
    resets: bool,
    /// Set once the response is complete, and the client is still sending.
    lingering: Option<Lingering>,
}

struct Lingering {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl CloseStream {
    pub(crate) fn new(stream: TcpStream, activity: Activity) -> Self {
        Self {
            stream,
            activity,
            is_new: true,
            resets: false,
            lingering: None,
        }
    }

    fn reset_if_interrupted(&mut self) {
        if !self.resets && self.activity.is_close_delimited() {
            // If this fails, the connection no longer exists.
            self.resets = self.stream.set_zero_linger().is_ok();
        }
    }

    fn end_normally(&mut self) {
        if self.resets {
            let _ = set_socket_linger(&self.stream, None);
            self.resets = false;
        }
    }
}

impl Lingering {
    fn new() -> Self {
        Self {
            until: Box::pin(sleep(LINGER_TIMEOUT)),
            bytes_left: MAX_DISCARDED_BYTES,
        }
    }

    /// Completes when the client has closed the connection or has had enough time.
    fn poll(&mut self, stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; 8 * 1024];
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *stream).poll_read(context, &mut read) {
                Poll::Ready(Ok(())) if (1..=self.bytes_left).contains(&read.filled().len()) => {
                    self.bytes_left -= read.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.until.as_mut().poll(context),
            }
        }
    }
}

impl AsyncRead for CloseStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if self.is_new && read.is_ready() {
            self.is_new = false;
            http2_preface::answer(&self.stream, &into.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for CloseStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.reset_if_interrupted();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.reset_if_interrupted();
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            // hyper shuts the stream down after a complete response.
            this.end_normally();
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.activity.has_unread_body() {
                return Poll::Ready(Ok(()));
            }
        }
        let lingering = this.lingering.get_or_insert_with(Lingering::new);
        lingering.poll(&mut this.stream, context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use bytes::Bytes;
    use http::{Request, Version};
    use http_body_util::{BodyExt, Full};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    use super::{Activity, CloseStream};

    /// What a client reads of a response that is dropped, after a shutdown or not.
    async fn read_response(version: Version, is_complete: bool) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (stream, _) = listener.accept().await?;
        let activity = Activity::default();
        let mut stream = CloseStream::new(stream, activity.clone());
        let request = Request::builder().version(version).body(()).unwrap();
        let open = activity.begin(&request);
        stream.write_all(b"half").await?;
        if is_complete {
            stream.shutdown().await?;
        }
        let mut text = String::new();
        let mut first = [0; 4];
        client.read_exact(&mut first).await?;
        drop(open);
        drop(stream);
        client.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// What a client gets that sends 3 MB and only then reads, from a server that reads the body or responds at once.
    async fn send_large_body(reads_body: bool) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (stream, _) = listener.accept().await?;
        let server = tokio::spawn(async move {
            let activity = Activity::default();
            let mut stream = CloseStream::new(stream, activity.clone());
            let request = Request::new(Full::new(Bytes::from_static(b"body")));
            let open = activity.begin(&request);
            let body = activity.track_body(request.into_body());
            if reads_body {
                body.collect().await.unwrap();
                stream.read_exact(&mut vec![0; 3_000_000]).await.unwrap();
            } else {
                drop(body);
            }
            stream.write_all(b"response").await.unwrap();
            drop(open);
            let start = Instant::now();
            stream.shutdown().await.unwrap();
            (start.elapsed(), reads_body)
        });
        client.write_all(&vec![0; 3_000_000]).await?;
        let mut text = String::new();
        client.read_to_string(&mut text).await?;
        if !reads_body {
            drop(client);
        }
        let (time, _) = server.await?;
        assert!(
            time < super::LINGER_TIMEOUT,
            "the end of the client is not noticed: {time:?}"
        );
        Ok(text)
    }

    #[tokio::test]
    async fn a_client_that_is_still_sending_receives_the_response() {
        for _ in 0..20 {
            assert_eq!(send_large_body(false).await.unwrap(), "response");
        }
        assert_eq!(send_large_body(true).await.unwrap(), "response");
    }

    #[tokio::test]
    async fn only_an_interrupted_response_to_http_1_0_resets_the_connection() {
        let aborted = read_response(Version::HTTP_10, false).await;
        assert_eq!(aborted.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(read_response(Version::HTTP_10, true).await.unwrap(), "");
        assert_eq!(read_response(Version::HTTP_11, false).await.unwrap(), "");
    }
}
