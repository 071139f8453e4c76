//! Closes connections whose clients do not read their responses, or read them too slowly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::limits::{MIN_WRITE_BYTES, WRITE_TIMEOUT};

/// A stream that fails with `TimedOut` if its client reads less than [`MIN_WRITE_BYTES`] per [`WRITE_TIMEOUT`] while
/// data waits to be written. A stream with nothing to write may be idle indefinitely, as when following a quiet log.
pub(crate) struct WriteTimeoutStream<S> {
    stream: S,
    /// When the current measurement ends.
    deadline: Pin<Box<Sleep>>,
    /// Bytes written since the measurement began; `None` while nothing waits.
    written: Option<usize>,
}

impl<S> WriteTimeoutStream<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            deadline: Box::pin(tokio::time::sleep(WRITE_TIMEOUT)),
            written: None,
        }
    }

    /// Counts the bytes of a write, or starts or checks the measurement if the write has to wait.
    fn check_progress(
        &mut self,
        result: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                if let Some(written) = &mut self.written {
                    *written = written.saturating_add(bytes);
                }
                result
            }
            Poll::Ready(Err(_)) => result,
            Poll::Pending => {
                let mut written = self.written.unwrap_or(MIN_WRITE_BYTES);
                let mut is_due = self.written.is_none();
                loop {
                    if is_due && written < MIN_WRITE_BYTES {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    if is_due {
                        self.deadline.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
                        written = 0;
                    }
                    self.written = Some(written);
                    // After a reset, poll the timer again: only polling registers the waker.
                    ready!(self.deadline.as_mut().poll(context));
                    is_due = true;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeoutStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_progress(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.check_progress(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // hyper flushes once it has written all its data, so after a flush nothing waits.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        if done.is_ready() {
            self.written = None;
        }
        done
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, sleep};

    use super::WriteTimeoutStream;
    use crate::limits::{MIN_WRITE_BYTES, WRITE_TIMEOUT};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, server) = duplex(1000);
        let start = Instant::now();
        let written = WriteTimeoutStream::new(server).write_all(&[0; 10_000]).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_byte_now_and_then_is_given_up() {
        let (mut client, server) = duplex(1000);
        let start = Instant::now();
        let writing = tokio::spawn(async move {
            WriteTimeoutStream::new(server)
                .write_all(&vec![0; 10 * MIN_WRITE_BYTES])
                .await
        });
        while !writing.is_finished() {
            sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
            // The server may have closed the connection by now.
            let _ = client.read_u8().await;
        }
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() < WRITE_TIMEOUT * 3, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_everything() {
        let (mut client, server) = duplex(1000);
        let writing = tokio::spawn(async move {
            WriteTimeoutStream::new(server)
                .write_all(&vec![0; 10 * MIN_WRITE_BYTES])
                .await
        });
        let mut piece = vec![0; MIN_WRITE_BYTES];
        for _ in 0..10 {
            sleep(WRITE_TIMEOUT / 2).await;
            client.read_exact(&mut piece).await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_of_a_quiet_log_stays() {
        let (mut client, server) = duplex(1000);
        let mut server = WriteTimeoutStream::new(server);
        let mut piece = [0; 1500];
        for _ in 0..3 {
            // More than the pipe holds, so that the write waits for the client once.
            let (written, read) = tokio::join!(
                async {
                    server.write_all(&[0; 1500]).await?;
                    server.flush().await
                },
                client.read_exact(&mut piece)
            );
            written.unwrap();
            read.unwrap();
            sleep(WRITE_TIMEOUT * 3).await;
        }
    }
}
