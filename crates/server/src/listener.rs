//! Accepting connections: with limits, a time for the head of a request and for the reading of its answer, and an end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use task::status::SERVER_HEADER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use crate::app::AppState;
use crate::caller::{Caller, Client};
use crate::handlers::health::HealthResponse;
use crate::limits::{DRAIN_TIMEOUT, HEAD_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::pace::Paced;
use crate::router::router;
use crate::shares::{NoShare, Place, Shares};

/// The pause after a connection could not be accepted: there are no file descriptors, and some must be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection too many may take to be told so.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it is waited for what it asks.
const REFUSED_HEAD_TIMEOUT: Duration = Duration::from_millis(200);

/// How many connections may wait to be accepted; the system may allow fewer. One that finds no room comes again after a
/// second, and with the usual 128 a few hundred followers that come at once made others wait for that.
const BACKLOG: u32 = 4096;

/// Listens at an address.
///
/// # Errors
/// It is taken, or not of this machine.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of a server that was here a moment ago do not hold the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the server stops, then lets what is open come to its end for a while.
pub async fn serve(listener: TcpListener, app: AppState, connections: Shares<Client>) {
    let routes = router(app.clone());
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = app.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match connections.place() {
                Ok(place) => {
                    let entrance = Entrance {
                        app: app.clone(),
                        routes: routes.clone(),
                        connections: connections.clone(),
                        watcher: graceful.watcher(),
                    };
                    tokio::spawn(entrance.attend(stream, peer, place));
                }
                Err(reason) => drop(tokio::spawn(refuse(stream, reason))),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open and are cut");
    }
}

/// What one connection needs.
struct Entrance {
    app: AppState,
    routes: Router,
    connections: Shares<Client>,
    watcher: Watcher,
}

impl Entrance {
    /// Serves a connection to its end.
    async fn attend(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Log lines are small, and each shall be seen at once.
        let _ = stream.set_nodelay(true);
        let caller = Caller::of(&stream, peer).await;
        let share = match self.connections.take_place(place, caller.client) {
            Ok(share) => share,
            Err(reason) => return refuse(stream, reason).await,
        };
        let refused = self.app.guard.refusal(&caller);
        let routes = self.routes.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(caller.client);
            if let Some(refused) = &refused {
                request.extensions_mut().insert(refused.clone());
            }
            request
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(Paced::new(stream)), TowerToHyperService::new(routes));
        metrics::gauge!("k8s_cli_http_connections").increment(1.0);
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "a connection broke");
        }
        metrics::gauge!("k8s_cli_http_connections").decrement(1.0);
        drop(share);
    }
}

/// Tells a connection too many so, if it takes it soon.
async fn refuse(stream: TcpStream, reason: NoShare) {
    metrics::counter!("k8s_cli_http_connections_refused_total").increment(1);
    // Who leaves or does not read is told nothing.
    let _ = timeout(REFUSE_TIMEOUT, tell(stream, reason)).await;
}

/// What a connection too many is told; but whether the process lives it is told like every other, so that no probe restarts a
/// server that has much to do.
async fn tell(mut stream: TcpStream, reason: NoShare) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let asked = timeout(REFUSED_HEAD_TIMEOUT, stream.read(&mut head)).await;
    let is_probe = asked.is_ok() && head.starts_with(b"GET /healthz ");
    let too_many = |detail| format!("{{\"detail\": \"{detail}\"}}\n");
    let (status, body) = match reason {
        _ if is_probe => ("200 OK", serde_json::to_string(&HealthResponse::OK).unwrap_or_default()),
        NoShare::AllTaken => ("503 Service Unavailable", too_many("too many connections at once")),
        NoShare::OneHasMost => (
            "429 Too Many Requests",
            too_many("you have too many connections open; close one first"),
        ),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{SERVER_HEADER}: {}\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
