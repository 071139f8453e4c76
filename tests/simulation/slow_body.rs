//! The body of a watch that is paused for a while or forever, or is cut.

use std::collections::VecDeque;
use std::io;

use axum::body::{Body, BodyDataStream, Bytes};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

/// What happens to a watch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hold {
    /// Nothing.
    None,
    /// It ends.
    Cut {
        /// When it ends.
        at: Instant,
        /// Whether it ends without an error.
        is_clean: bool,
    },
    /// It stays open, and its data is delivered at once after the pause.
    Pause {
        /// Start of the pause.
        from: Instant,
        /// End of the pause; `None` is never.
        until: Option<Instant>,
    },
}

struct Held<B> {
    inner: BodyDataStream,
    hold: Hold,
    blocked_until: B,
    /// Data that is not delivered yet; `None` is the end.
    waiting: VecDeque<Option<Bytes>>,
    has_ended: bool,
}

/// Applies `hold` to a body, and also pauses it until `blocked_until`.
pub(crate) fn held(body: Body, hold: Hold, blocked_until: impl Fn() -> Option<Instant> + Send + 'static) -> Body {
    let held = Held {
        inner: body.into_data_stream(),
        hold,
        blocked_until,
        waiting: VecDeque::new(),
        has_ended: false,
    };
    Body::from_stream(stream::unfold(Some(held), |held| async move {
        let mut held = held?;
        match held.next().await {
            Some(Ok(bytes)) => Some((Ok(bytes), Some(held))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    }))
}

impl<B: Fn() -> Option<Instant>> Held<B> {
    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        loop {
            let now = Instant::now();
            if let Hold::Cut { at, is_clean } = self.hold
                && at <= now
            {
                return (!is_clean).then(|| Err(io::Error::new(io::ErrorKind::ConnectionReset, "the watch was cut")));
            }
            let (is_held, change) = self.state(now);
            if !is_held && let Some(piece) = self.waiting.pop_front() {
                return piece.map(Ok);
            }
            tokio::select! {
                biased;
                piece = self.inner.next(), if !self.has_ended => {
                    self.has_ended = piece.is_none();
                    self.waiting.push_back(piece.and_then(Result::ok));
                }
                () = sleep_until(change) => {}
            }
        }
    }

    /// Whether the body is paused, and when to check again.
    fn state(&self, now: Instant) -> (bool, Instant) {
        let far = now + std::time::Duration::from_secs(1_000_000);
        if let Some(until) = (self.blocked_until)() {
            return (true, until);
        }
        match self.hold {
            Hold::None => (false, far),
            Hold::Cut { at, .. } => (false, at),
            Hold::Pause { from, .. } if now < from => (false, from),
            Hold::Pause { until: None, .. } => (true, far),
            Hold::Pause { until: Some(until), .. } => (now < until, if now < until { until } else { far }),
        }
    }
}
