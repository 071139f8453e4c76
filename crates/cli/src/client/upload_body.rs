//! The body of an upload: in small pieces, so that it is known how much of it was sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How much is sent at once.
const PIECE: usize = 64 << 10;

/// Hears of bytes that were sent, and, with a negative number, of those that must be sent again.
type OnSent = Box<dyn Fn(i64) + Send + Sync>;

/// How much of a request was sent, over all of its tries.
pub(super) struct Sending {
    bytes: Bytes,
    /// In all tries.
    total: AtomicU64,
    /// In this one.
    sent: AtomicU64,
    on_sent: OnSent,
}

impl Sending {
    pub(super) fn new(bytes: Bytes, on_sent: OnSent) -> Arc<Self> {
        Arc::new(Self {
            bytes,
            total: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            on_sent,
        })
    }

    /// The body of one more try.
    pub(super) fn body(self: &Arc<Self>) -> reqwest::Body {
        let again = self.sent.swap(0, Ordering::Relaxed);
        (self.on_sent)(0_i64.saturating_sub_unsigned(again));
        reqwest::Body::wrap(Pieces {
            rest: self.bytes.clone(),
            sending: Arc::clone(self),
        })
    }

    /// Waits for `work` until nothing of the body was sent for this long; then it is `None`. Where the end of the body is
    /// on its way, it gets as long again.
    pub(super) async fn unless_stuck<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            let before = self.total.load(Ordering::Relaxed);
            match tokio::time::timeout(patience, &mut work).await {
                Ok(result) => return Some(result),
                Err(_) if self.total.load(Ordering::Relaxed) > before => {}
                Err(_) => return None,
            }
        }
    }
}

struct Pieces {
    rest: Bytes,
    sending: Arc<Sending>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        let length = piece.len() as u64;
        this.sending.total.fetch_add(length, Ordering::Relaxed);
        this.sending.sent.fetch_add(length, Ordering::Relaxed);
        (this.sending.on_sent)(0_i64.saturating_add_unsigned(length));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        // So the request has a `Content-Length`, which some proxies require.
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use http_body::Body;

    use super::{PIECE, Pieces, Sending};

    #[tokio::test(start_paused = true)]
    async fn an_upload_is_stuck_only_if_nothing_of_it_was_sent_for_long() {
        let told = Arc::new(AtomicI64::new(0));
        let on_sent = {
            let told = Arc::clone(&told);
            Box::new(move |bytes| {
                let _ = told.fetch_add(bytes, Ordering::Relaxed);
            })
        };
        let sending = Sending::new(Bytes::from(vec![0; 10 * PIECE]), on_sent);
        drop(sending.body());
        let mut body = Pieces {
            rest: sending.bytes.clone(),
            sending: Arc::clone(&sending),
        };
        let slow = async {
            while let Some(piece) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                assert!(piece.is_ok());
                tokio::time::sleep(Duration::from_secs(9)).await;
            }
        };
        assert!(sending.unless_stuck(Duration::from_secs(10), slow).await.is_some());
        assert_eq!(told.load(Ordering::Relaxed), 10 * PIECE as i64);
        let silent = std::future::pending::<()>();
        assert!(sending.unless_stuck(Duration::from_secs(10), silent).await.is_none());
        // Another try starts over.
        drop(sending.body());
        assert_eq!(told.load(Ordering::Relaxed), 0);
    }
}
