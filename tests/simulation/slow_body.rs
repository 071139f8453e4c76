//! The body of a watch that is held back for a while or for ever, or is cut.

use std::collections::VecDeque;
use std::io;

use axum::body::{Body, BodyDataStream, Bytes};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};

/// What happens to a watch.
#[derive(Debug, Clone, Copy)]
pub enum Hold {
    /// Nothing.
    Never,
    /// It ends, properly or not.
    Cut {
        /// When.
        at: Instant,
        /// Whether it looks like a proper end.
        is_clean: bool,
    },
    /// It is open, and nothing comes; what came meanwhile comes all at once afterwards.
    For {
        /// From when on.
        from: Instant,
        /// Until when; for ever when `None`.
        until: Option<Instant>,
    },
}

struct Held<B> {
    inner: BodyDataStream,
    hold: Hold,
    blocked_until: B,
    /// What has come and is not passed on yet; `None` is the end.
    waiting: VecDeque<Option<Bytes>>,
    has_ended: bool,
}

/// A body that is held back as `hold` says, and while `blocked_until` says so.
pub fn held(body: Body, hold: Hold, blocked_until: impl Fn() -> Option<Instant> + Send + 'static) -> Body {
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

    /// Whether nothing is passed on now, and when that changes at the latest.
    fn state(&self, now: Instant) -> (bool, Instant) {
        let far = now + std::time::Duration::from_secs(1_000_000);
        if let Some(until) = (self.blocked_until)() {
            return (true, until);
        }
        match self.hold {
            Hold::Never => (false, far),
            Hold::Cut { at, .. } => (false, at),
            Hold::For { from, .. } if now < from => (false, from),
            Hold::For { until: None, .. } => (true, far),
            Hold::For { until: Some(until), .. } => (now < until, if now < until { until } else { far }),
        }
    }
}
