//! Resets connections whose response is interrupted where the client would take the end of the connection for the end
//! of the response.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;

/// A TCP stream that is reset, not closed, if it ends in the middle of a response to HTTP/1.0. Proxies use HTTP/1.0 by
/// default, e.g., nginx, and would pass on a log that was cut off as if it were complete.
/// With HTTP/1.1, the client notices by itself: the last chunk is missing. There, a reset might only destroy data that
/// the client has not read yet.
///
/// The kernel is told before the response begins, because no code runs if this process is killed.
pub(crate) struct ResetOnAbort {
    stream: TcpStream,
    activity: Activity,
    /// Whether the kernel resets the connection when the stream is closed.
    is_armed: bool,
}

impl ResetOnAbort {
    pub(crate) fn new(stream: TcpStream, activity: Activity) -> Self {
        Self {
            stream,
            activity,
            is_armed: false,
        }
    }

    fn arm(&mut self) {
        if !self.is_armed && self.activity.is_close_delimited() {
            // If this fails, the connection no longer exists.
            self.is_armed = self.stream.set_zero_linger().is_ok();
        }
    }

    fn disarm(&mut self) {
        if self.is_armed {
            let _ = set_socket_linger(&self.stream, None);
            self.is_armed = false;
        }
    }
}

impl AsyncRead for ResetOnAbort {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for ResetOnAbort {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.arm();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.arm();
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper shuts the stream down after a complete response.
        self.disarm();
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use http::{Request, Version};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Activity, ResetOnAbort};

    /// What a client reads of a response that is dropped, after a shutdown or not.
    async fn read_response(version: Version, is_complete: bool) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let (stream, _) = listener.accept().await?;
        let activity = Activity::default();
        let mut stream = ResetOnAbort::new(stream, activity.clone());
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

    #[tokio::test]
    async fn only_an_interrupted_response_to_http_1_0_resets_the_connection() {
        let aborted = read_response(Version::HTTP_10, false).await;
        assert_eq!(aborted.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(read_response(Version::HTTP_10, true).await.unwrap(), "");
        assert_eq!(read_response(Version::HTTP_11, false).await.unwrap(), "");
    }
}
