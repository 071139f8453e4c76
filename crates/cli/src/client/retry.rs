//! Retry policy of a single request.

use std::time::Duration;

use reqwest::{Response, StatusCode, header};
use tokio::time::sleep;

/// Maximum number of times a request is sent.
const MAX_TRIES: u32 = 5;

/// Pause before the first retry; doubles with each retry.
const INITIAL_BACKOFF: Duration = Duration::from_millis(200);

/// Limit for `Retry-After`, so that a response cannot make the CLI hang.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);

/// The remaining retries of one request.
#[derive(Debug)]
pub(crate) struct Retries {
    left: u32,
    backoff: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            left: MAX_TRIES - 1,
            backoff: INITIAL_BACKOFF,
        }
    }
}

impl Retries {
    /// The pause before the next try; `None` if the response does not ask for a retry, or no tries are left.
    pub(crate) fn after_response(&mut self, response: &Response) -> Option<impl Future<Output = ()> + use<>> {
        self.next_pause(retry_after(response)?)
    }

    /// The same after a broken connection. A refused connection is not retried: a server will not start listening by
    /// itself, and the caller may want to start one.
    pub(crate) fn after_error(&mut self, error: &reqwest::Error) -> Option<impl Future<Output = ()> + use<>> {
        if error.is_connect() {
            return None;
        }
        self.next_pause(Duration::ZERO)
    }

    fn next_pause(&mut self, retry_after: Duration) -> Option<impl Future<Output = ()> + use<>> {
        self.left = self.left.checked_sub(1)?;
        let pause = retry_after.max(self.backoff);
        self.backoff *= 2;
        Some(sleep(pause))
    }
}

/// How long a busy server asks the client to wait. Without `Retry-After`, the error is final.
fn retry_after(response: &Response) -> Option<Duration> {
    let is_busy = matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let seconds = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    is_busy.then(|| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
