//! The network between one server and Kubernetes, with its faults.
//!
//! The fault of a request depends on the seed, on the request, and on how often it was sent before. It does not depend
//! on the order of requests, so that a change in the timing of one server changes little else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use fastrand::Rng;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::slow_body::{Hold, held};

/// Maximum delay of a request or a response.
const LONGEST_DELAY: Duration = Duration::from_secs(20);

/// The network of a simulation.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    /// Probability of a fault per request.
    pub requests: f64,
    /// Probability of a fault per watch.
    pub watches: f64,
    /// Whether each request takes a few milliseconds.
    pub latency: bool,
    /// Whether there are no more faults.
    pub is_quiet: Arc<AtomicBool>,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The request arrives late.
    LateRequest(Duration),
    /// The response arrives late.
    LateResponse(Duration),
    /// The request is processed, but there is no response.
    NoResponse,
    /// The request is processed, but the connection is reset.
    ConnectionReset,
    /// The request is not processed, and the connection is refused.
    ConnectionRefused,
    /// The request is not processed, and there is no response.
    Dropped,
    /// The request is not processed, and the response is an error.
    ErrorResponse(StatusCode),
}

/// The connection of one server to Kubernetes.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    router: Router,
    seed: u64,
    network: Network,
    /// How often each request was sent, by its hash.
    sent: Mutex<HashMap<u64, u32>>,
    /// The end of a network partition.
    partition: Mutex<Option<Instant>>,
    dead: CancellationToken,
    writes: AtomicU32,
    /// The write during which the server crashes.
    last_write: Option<u32>,
}

impl Link {
    /// Creates the connection of a server that crashes during its `last_write`-th write, if there is one.
    pub(crate) fn new(router: Router, seed: u64, network: Network, last_write: Option<u32>) -> Self {
        Self(Arc::new(Shared {
            router,
            seed,
            network,
            sent: Mutex::default(),
            partition: Mutex::default(),
            dead: CancellationToken::new(),
            writes: AtomicU32::new(0),
            last_write,
        }))
    }

    /// Kills the server: it sends no more requests and receives no more responses.
    pub(crate) fn kill(&self) {
        self.0.dead.cancel();
    }

    /// A token that is canceled when the server is dead.
    pub(crate) fn dead(&self) -> CancellationToken {
        self.0.dead.clone()
    }

    /// Blocks all requests and responses for a while.
    pub(crate) fn partition(&self, time: Duration) {
        *lock(&self.0.partition) = Some(Instant::now() + time);
    }
}

impl Service<Request<kube::client::Body>> for Link {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.pass(request.map(Body::new)).await })
    }
}

impl Shared {
    async fn pass(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, io::Error> {
        self.alive().await;
        let mut random = self.random(&request);
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let fault = self.fault(&mut random);
        let mut before = self.latency(&mut random);
        if let Some(left) = self.partitioned() {
            // Either the connection times out, or the request arrives after the partition.
            if random.bool() {
                sleep(left.min(Duration::from_secs(5))).await;
                return Err(broken("the host is unreachable"));
            }
            before += left;
        }
        match fault {
            Fault::Dropped => return self.never().await,
            Fault::ConnectionRefused => {
                sleep(before).await;
                return Err(broken("connection refused"));
            }
            Fault::ErrorResponse(code) => {
                sleep(before).await;
                self.alive().await;
                return Ok(error_response(code));
            }
            Fault::LateRequest(late) => before += late,
            _ => {}
        }
        let crashes = self.crashes_at(&request);
        let is_lost = random.bool();
        if crashes && is_lost {
            self.dead.cancel();
        }
        let pending = self.deliver(request, before, is_lost);
        if crashes {
            self.dead.cancel();
        }
        let response = pending.await.map_err(|_| broken("the connection was lost"))?;
        let mut after = self.latency(&mut random);
        match fault {
            Fault::NoResponse => return self.never().await,
            Fault::ConnectionReset => {
                sleep(after).await;
                self.alive().await;
                return Err(broken("connection reset by peer"));
            }
            Fault::LateResponse(late) => after += late,
            _ => {}
        }
        sleep(after + self.partitioned().unwrap_or_default()).await;
        self.alive().await;
        if !is_watch {
            return Ok(response);
        }
        let hold = self.hold(&mut random);
        let shared = Arc::clone(&self);
        Ok(response.map(|body| held(body, hold, move || shared.blocked_until())))
    }

    /// Delivers a request in the background, because the sender may stop waiting before it arrives. A request that
    /// `is_lost_with_sender` does not arrive if the server has crashed by then.
    fn deliver(
        &self,
        request: Request<Body>,
        before: Duration,
        is_lost_with_sender: bool,
    ) -> oneshot::Receiver<Response<Body>> {
        let (sender, receiver) = oneshot::channel();
        let (router, dead) = (self.router.clone(), self.dead.clone());
        tokio::spawn(async move {
            if !before.is_zero() {
                sleep(before).await;
            }
            if is_lost_with_sender && dead.is_cancelled() {
                return;
            }
            let Ok::<_, Infallible>(response) = router.oneshot(request).await;
            // The sender may have stopped waiting.
            let _ = sender.send(response);
        });
        receiver
    }

    fn crashes_at(&self, request: &Request<Body>) -> bool {
        let is_write = request.method() != Method::GET && !self.is_quiet();
        is_write && self.last_write == Some(self.writes.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Never returns if the server is dead.
    async fn alive(&self) {
        if self.dead.is_cancelled() {
            pending::<()>().await;
        }
    }

    async fn never<T>(&self) -> T {
        pending().await
    }

    fn partitioned(&self) -> Option<Duration> {
        let until = *lock(&self.partition);
        until
            .map(|until| until.saturating_duration_since(Instant::now()))
            .filter(|left| !left.is_zero())
    }

    /// The time until which watches deliver nothing; `None` if they are not blocked.
    fn blocked_until(&self) -> Option<Instant> {
        if self.dead.is_cancelled() {
            return Some(Instant::now() + Duration::from_secs(1_000_000));
        }
        self.partitioned().map(|left| Instant::now() + left)
    }

    /// A random number generator for this request, independent of when it is sent.
    fn random(&self, request: &Request<Body>) -> Rng {
        let mut hash = DefaultHasher::new();
        (self.seed, request.method().as_str(), request.uri().path()).hash(&mut hash);
        let query = request.uri().query().unwrap_or_default().split('&');
        query
            .filter(|part| !part.starts_with("resourceVersion"))
            .for_each(|part| part.hash(&mut hash));
        let what = hash.finish();
        let mut sent = lock(&self.sent);
        let times = sent.entry(what).or_default();
        *times += 1;
        (what, *times).hash(&mut hash);
        Rng::with_seed(hash.finish())
    }

    fn latency(&self, random: &mut Rng) -> Duration {
        if self.network.latency {
            Duration::from_millis(random.u64(0..15))
        } else {
            Duration::ZERO
        }
    }

    fn is_quiet(&self) -> bool {
        self.network.is_quiet.load(Ordering::Relaxed)
    }

    fn fault(&self, random: &mut Rng) -> Fault {
        let has_no_fault = random.f64() >= self.network.requests;
        // Long delays are rare.
        let late = LONGEST_DELAY.mul_f64(random.f64().powi(3));
        let what = random.u8(0..12);
        if has_no_fault || self.is_quiet() {
            return Fault::None;
        }
        match what {
            0 | 1 => Fault::LateRequest(late),
            2 | 3 => Fault::LateResponse(late),
            4 => Fault::NoResponse,
            5 | 6 => Fault::ConnectionReset,
            7 => Fault::ConnectionRefused,
            8 => Fault::Dropped,
            9 => Fault::ErrorResponse(StatusCode::INTERNAL_SERVER_ERROR),
            10 => Fault::ErrorResponse(StatusCode::SERVICE_UNAVAILABLE),
            _ => Fault::ErrorResponse(StatusCode::TOO_MANY_REQUESTS),
        }
    }

    fn hold(&self, random: &mut Rng) -> Hold {
        let has_no_fault = random.f64() >= self.network.watches;
        let from = Instant::now() + Duration::from_millis(random.u64(0..3500));
        let time = LONGEST_DELAY.mul_f64(random.f64().powi(2));
        let what = random.u8(0..6);
        if has_no_fault || self.is_quiet() {
            return Hold::None;
        }
        match what {
            0 => Hold::Cut {
                at: from,
                is_clean: true,
            },
            1 => Hold::Cut {
                at: from,
                is_clean: false,
            },
            2 => Hold::Pause { from, until: None },
            _ => Hold::Pause {
                from,
                until: Some(from + time),
            },
        }
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why.to_owned())
}

fn error_response(code: StatusCode) -> Response<Body> {
    let reason = match code {
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": "simulated error",
    });
    let mut response = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json");
    if code == StatusCode::TOO_MANY_REQUESTS {
        response = response.header(header::RETRY_AFTER, "1");
    }
    response.body(Body::from(status.to_string())).unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
