//! Limits on request sizes, memory, time, and concurrency, and the errors for exceeding them.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use task::UserName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::client::Requester;
use crate::concurrency_limit::{ConcurrencyLimit, ConcurrencyPermit, LimitReached};
use crate::error::ApiError;
use crate::memory_budget::{MemoryBudget, MemoryPermit};

/// Maximum size of a request body: 1 MB of scripts and 1 MB of variables, plus JSON escaping.
pub(crate) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// Maximum size of a manifest of files. Contents come in packs of at most 8 MiB, which every proxy lets pass.
pub(crate) const MAX_UPLOAD_BYTES: usize = 16 * 1024 * 1024;

/// Maximum number of entries of a file set.
pub(crate) const MAX_FILE_ENTRIES: usize = 100_000;

/// Maximum size of a body that is not charged to the memory budget and is parsed on the async thread. Most tasks are
/// smaller, so they never wait for large ones.
pub(crate) const SMALL_BODY_BYTES: usize = 16 * 1024;

/// Maximum number of values in a JSON body. Each takes some hundred bytes of memory, and more in an error; a valid task
/// has far fewer.
pub(crate) const MAX_BODY_VALUES: usize = 50_000;

/// Memory budget for large bodies that are being read and parsed, in bytes.
const BODY_MEMORY_BYTES: usize = 32 * 1024 * 1024;

/// Memory budget for responses generated for one client that it has not read yet, in bytes.
const RESPONSE_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Memory budget for the contents of files that are being sent to the nodes of tasks, in bytes.
const FILE_MEMORY_BYTES: usize = 32 * 1024 * 1024;

/// Maximum number of contents in one request of a node.
pub(crate) const MAX_REQUESTED_CONTENTS: usize = 1000;

/// Maximum size of these contents together, unless it is a single one: what a pack may have.
pub(crate) const MAX_REQUESTED_BYTES: u64 = files::MAX_PACK as u64;

/// Maximum size of a response that is not charged to that budget: as much as the buffer of every connection holds
/// anyway.
const SMALL_RESPONSE_BYTES: usize = MAX_HEAD_BYTES;

/// How long a large body waits for memory before it is refused with 503. Other bodies are read and parsed within
/// seconds, so a longer wait means overload.
const BODY_MEMORY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long receiving a body may take, not counting the time it waits for memory.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a body that holds memory may stall before it is refused, because others wait for the memory.
pub(crate) const BODY_STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The minimum average rate at which such a body must arrive, in bytes per second.
const MIN_BODY_BYTES_PER_SECOND: usize = 64 * 1024;

/// How long receiving the head of a request may take.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to read [`MIN_WRITE_BYTES`] of a response. Unread data holds memory and a connection.
/// This includes log streams; `k8s-cli` reconnects and continues where it was interrupted.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much a client must read within [`WRITE_TIMEOUT`] while more data waits. Without a minimum, a byte now and then
/// would hold a response in memory indefinitely.
pub(crate) const MIN_WRITE_BYTES: usize = 16 * 1024;

/// Maximum size of a request head. No common proxy forwards a larger one.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Maximum number of headers in a request.
pub(crate) const MAX_HEADERS: usize = 100;

/// Maximum number of concurrent requests that call Kubernetes. It queues calls itself, so more would only wait there.
const MAX_KUBERNETES_CALLS: usize = 512;

/// How long connections may take to finish when the server stops, before they are closed.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a body that holds memory may take to exceed `bytes` bytes, counted from when it got the memory.
pub(crate) fn time_allowed(bytes: usize) -> Duration {
    BODY_STALL_TIMEOUT + Duration::from_secs((bytes / MIN_BODY_BYTES_PER_SECOND) as u64)
}

/// The limits that are shared by concurrent requests.
pub struct RequestLimits {
    body_memory: MemoryBudget,
    response_memory: MemoryBudget,
    file_memory: MemoryBudget,
    kubernetes_calls: Arc<Semaphore>,
    log_streams: ConcurrencyLimit<UserName>,
}

/// Permission to hold one log stream.
pub struct LogStreamPermit {
    _permit: ConcurrencyPermit<UserName>,
}

impl RequestLimits {
    /// Creates the limits, with the maximum number of log streams in total and per user.
    pub fn new(max_streams: usize, max_streams_per_user: usize) -> Self {
        Self {
            body_memory: MemoryBudget::new(BODY_MEMORY_BYTES),
            response_memory: MemoryBudget::new(RESPONSE_MEMORY_BYTES),
            file_memory: MemoryBudget::new(FILE_MEMORY_BYTES),
            kubernetes_calls: Arc::new(Semaphore::new(MAX_KUBERNETES_CALLS)),
            log_streams: ConcurrencyLimit::new(max_streams, max_streams_per_user),
        }
    }

    /// Waits for memory for a large body.
    pub async fn acquire_body_memory(&self, requester: &Requester, bytes: usize) -> Result<MemoryPermit, ApiError> {
        let acquiring = self.body_memory.acquire(requester, bytes);
        within_patience(acquiring, "too many large requests; try again in a second").await
    }

    /// Waits for memory for contents of files that are about to be read and sent.
    pub async fn acquire_file_memory(&self, requester: &Requester, bytes: usize) -> Result<MemoryPermit, ApiError> {
        let acquiring = self.file_memory.acquire(requester, bytes);
        within_patience(acquiring, "too many files are being sent; try again in a second").await
    }

    /// Takes memory for a response that is a copy for one client. A small one needs none.
    pub fn try_acquire_response_memory(
        &self,
        requester: &Requester,
        bytes: usize,
    ) -> Result<Option<MemoryPermit>, ApiError> {
        if bytes <= SMALL_RESPONSE_BYTES {
            return Ok(None);
        }
        // Don't wait: the response already takes up memory.
        let acquired = self.response_memory.acquire(requester, bytes).now_or_never().flatten();
        let unavailable =
            || ApiError::Unavailable("too many large responses are being sent; try again in a second".to_owned());
        acquired.map(Some).ok_or_else(unavailable)
    }

    /// Takes permission for a request that calls Kubernetes.
    pub fn acquire_kubernetes_call(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = Arc::clone(&self.kubernetes_calls).try_acquire_owned();
        permit.map_err(|_| ApiError::Unavailable("too many concurrent requests; try again in a second".to_owned()))
    }

    /// Takes permission to hold a log stream.
    pub fn acquire_log_stream(&self, user: &UserName) -> Result<LogStreamPermit, ApiError> {
        let permit = self
            .log_streams
            .try_acquire(user.clone())
            .map_err(|reason| match reason {
                LimitReached::Total => {
                    ApiError::Unavailable("too many open log streams; close one or try again later".to_owned())
                }
                LimitReached::PerOwner => ApiError::TooManyRequests(format!(
                    "limit of {} open log streams per user reached; close one and try again",
                    self.log_streams.max_per_owner()
                )),
            })?;
        metrics::gauge!("k8s_cli_log_followers").increment(1.0);
        Ok(LogStreamPermit { _permit: permit })
    }
}

async fn within_patience(
    acquiring: impl Future<Output = Option<MemoryPermit>>,
    refusal: &str,
) -> Result<MemoryPermit, ApiError> {
    let acquired = timeout(BODY_MEMORY_TIMEOUT, acquiring).await;
    let refused = || ApiError::Unavailable(refusal.to_owned());
    acquired.ok().flatten().ok_or_else(refused)
}

impl Drop for LogStreamPermit {
    fn drop(&mut self) {
        metrics::gauge!("k8s_cli_log_followers").decrement(1.0);
    }
}
