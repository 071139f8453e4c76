//! Retry policy of a single request.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use tokio::time::sleep;

/// Maximum number of times a request is sent.
const TRIES: u32 = 5;

/// Pause before the first retry; doubles with each retry.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Limit for `Retry-After`, so that a response cannot make the CLI hang.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The remaining retries of one request.
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
    /// The pause before the next try; `None` if the response does not ask for a retry, or no tries are left.
    pub fn after(&mut self, response: &Response) -> Option<impl Future<Output = ()> + use<>> {
        self.next(asked_to_wait(response)?)
    }

    /// The same after a broken connection. A refused connection is not retried: a server will not start listening by
    /// itself, and the caller may want to start one.
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

/// How long a busy server asks the client to wait. Without `Retry-After`, the error is final.
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
