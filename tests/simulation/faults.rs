//! The network between one server and Kubernetes, and everything that can go wrong in it.
//!
//! What becomes of a request follows from the seed, from what it asks for, and from how often that was asked before: not from
//! the order of requests, so that a change of one server's timing changes little else.

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

/// The longest time that a request or an answer is on its way.
const LONGEST_DELAY: Duration = Duration::from_secs(20);

/// How bad the network of a whole simulation is.
#[derive(Debug, Clone)]
pub struct Weather {
    /// The chance that something happens to a request.
    pub requests: f64,
    /// The chance that something happens to a watch.
    pub watches: f64,
    /// Whether every request takes a few milliseconds.
    pub latency: bool,
    /// Whether the storm is over.
    pub is_calm: Arc<AtomicBool>,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Normal,
    /// It arrives late.
    Late(Duration),
    /// Its answer arrives late.
    LateAnswer(Duration),
    /// It is done, and there is no answer.
    NoAnswer,
    /// It is done, and the connection breaks.
    Broken,
    /// It is not done, and the connection breaks.
    Unreachable,
    /// It is not done, and nothing ever comes back.
    Swallowed,
    Refused(StatusCode),
}

/// One server's way to Kubernetes.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    router: Router,
    seed: u64,
    weather: Weather,
    /// How often what was asked.
    asked: Mutex<HashMap<u64, u32>>,
    /// Until when nothing passes.
    partition: Mutex<Option<Instant>>,
    dead: CancellationToken,
    writes: AtomicU32,
    /// The write at which the server dies.
    last_write: Option<u32>,
}

impl Link {
    /// A way for a server that dies at its `last_write`-th write, if it is given one.
    pub fn new(router: Router, seed: u64, weather: Weather, last_write: Option<u32>) -> Self {
        Self(Arc::new(Shared {
            router,
            seed,
            weather,
            asked: Mutex::default(),
            partition: Mutex::default(),
            dead: CancellationToken::new(),
            writes: AtomicU32::new(0),
            last_write,
        }))
    }

    /// Ends the server: nothing that it asks for from now on is done, and it learns nothing any more.
    pub fn kill(&self) {
        self.0.dead.cancel();
    }

    /// When the server is dead.
    pub fn dead(&self) -> CancellationToken {
        self.0.dead.clone()
    }

    /// Lets nothing pass for a while.
    pub fn part(&self, time: Duration) {
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
        let fate = self.fate(&mut random);
        let mut before = self.latency(&mut random);
        if let Some(left) = self.partitioned() {
            // Either the connection times out, or what was sent arrives when the network is back.
            if random.bool() {
                sleep(left.min(Duration::from_secs(5))).await;
                return Err(broken("the host is unreachable"));
            }
            before += left;
        }
        match fate {
            Fate::Swallowed => return self.never().await,
            Fate::Unreachable => {
                sleep(before).await;
                return Err(broken("connection refused"));
            }
            Fate::Refused(code) => {
                sleep(before).await;
                self.alive().await;
                return Ok(refusal(code));
            }
            Fate::Late(late) => before += late,
            _ => {}
        }
        let dies = self.dies_at(&request);
        let is_lost = random.bool();
        if dies && is_lost {
            self.dead.cancel();
        }
        let answer = self.deliver(request, before, is_lost);
        if dies {
            self.dead.cancel();
        }
        let response = answer.await.map_err(|_| broken("the connection was lost"))?;
        let mut after = self.latency(&mut random);
        match fate {
            Fate::NoAnswer => return self.never().await,
            Fate::Broken => {
                sleep(after).await;
                self.alive().await;
                return Err(broken("connection reset by peer"));
            }
            Fate::LateAnswer(late) => after += late,
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

    /// Sends a request on its way. It goes on by itself: whoever waits for the answer may have given up when it arrives. One that
    /// `is_lost_with_sender` does not arrive when the server has died meanwhile.
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
            let Ok::<_, Infallible>(answer) = router.oneshot(request).await;
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        });
        receiver
    }

    fn dies_at(&self, request: &Request<Body>) -> bool {
        let is_write = request.method() != Method::GET && !self.is_calm();
        is_write && self.last_write == Some(self.writes.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A dead server waits for ever.
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

    /// Until when watches deliver nothing; `None` when they do.
    fn blocked_until(&self) -> Option<Instant> {
        if self.dead.is_cancelled() {
            return Some(Instant::now() + Duration::from_secs(1_000_000));
        }
        self.partitioned().map(|left| Instant::now() + left)
    }

    /// Draws for this request, which are the same whenever it is made.
    fn random(&self, request: &Request<Body>) -> Rng {
        let mut hash = DefaultHasher::new();
        (self.seed, request.method().as_str(), request.uri().path()).hash(&mut hash);
        let query = request.uri().query().unwrap_or_default().split('&');
        query
            .filter(|part| !part.starts_with("resourceVersion"))
            .for_each(|part| part.hash(&mut hash));
        let what = hash.finish();
        let mut asked = lock(&self.asked);
        let times = asked.entry(what).or_default();
        *times += 1;
        (what, *times).hash(&mut hash);
        Rng::with_seed(hash.finish())
    }

    fn latency(&self, random: &mut Rng) -> Duration {
        if self.weather.latency {
            Duration::from_millis(random.u64(0..15))
        } else {
            Duration::ZERO
        }
    }

    fn is_calm(&self) -> bool {
        self.weather.is_calm.load(Ordering::Relaxed)
    }

    fn fate(&self, random: &mut Rng) -> Fate {
        let is_spared = random.f64() >= self.weather.requests;
        // Few take very long.
        let late = LONGEST_DELAY.mul_f64(random.f64().powi(3));
        let what = random.u8(0..12);
        if is_spared || self.is_calm() {
            return Fate::Normal;
        }
        match what {
            0 | 1 => Fate::Late(late),
            2 | 3 => Fate::LateAnswer(late),
            4 => Fate::NoAnswer,
            5 | 6 => Fate::Broken,
            7 => Fate::Unreachable,
            8 => Fate::Swallowed,
            9 => Fate::Refused(StatusCode::INTERNAL_SERVER_ERROR),
            10 => Fate::Refused(StatusCode::SERVICE_UNAVAILABLE),
            _ => Fate::Refused(StatusCode::TOO_MANY_REQUESTS),
        }
    }

    fn hold(&self, random: &mut Rng) -> Hold {
        let is_spared = random.f64() >= self.weather.watches;
        let from = Instant::now() + Duration::from_millis(random.u64(0..3500));
        let time = LONGEST_DELAY.mul_f64(random.f64().powi(2));
        let what = random.u8(0..6);
        if is_spared || self.is_calm() {
            return Hold::Never;
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
            2 => Hold::For { from, until: None },
            _ => Hold::For {
                from,
                until: Some(from + time),
            },
        }
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why.to_owned())
}

fn refusal(code: StatusCode) -> Response<Body> {
    let reason = match code {
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": "the simulated API server does not want to",
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
