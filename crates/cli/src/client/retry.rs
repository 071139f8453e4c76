//! How often, and after which pauses, a request is sent again.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use tokio::time::sleep;

/// How often a request is sent.
const TRIES: u32 = 5;

/// The first pause; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause that a server can ask for with `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The tries of one request.
#[derive(Debug)]
pub struct Tries {
    left: u32,
    pause: Duration,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            left: TRIES - 1,
            pause: FIRST_PAUSE,
        }
    }
}

impl Tries {
    /// The pause before the next try, when a busy server asks to wait and there are any left.
    pub fn after(&mut self, response: &Response) -> Option<impl Future<Output = ()> + use<>> {
        self.next(asked_to_wait(response)?)
    }

    /// The same after a connection that broke. Where nobody listens, nobody will in a moment.
    pub fn after_break(&mut self, error: &reqwest::Error) -> Option<impl Future<Output = ()> + use<>> {
        if error.is_connect() {
            return None;
        }
        self.next(Duration::ZERO)
    }

    fn next(&mut self, asked: Duration) -> Option<impl Future<Output = ()> + use<>> {
        self.left = self.left.checked_sub(1)?;
        let pause = asked.max(self.pause);
        self.pause *= 2;
        Some(sleep(pause))
    }
}

/// Whether, and how long, a busy server asks to wait.
fn asked_to_wait(response: &Response) -> Option<Duration> {
    let busy = matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let after = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    busy.then(|| Duration::from_secs(after).min(LONGEST_PAUSE))
}
