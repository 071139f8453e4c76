//! Accepts connections within limits and timeouts, and drains them on shutdown.

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

/// The pause after a failed accept. The usual cause is that the process is out of file descriptors, and retrying
/// immediately would spin until some are closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long sending the response to a refused connection may take.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for the request of a refused connection.
const REFUSED_HEAD_TIMEOUT: Duration = Duration::from_millis(200);

/// How many connections may wait to be accepted; the system may allow fewer. When the queue is full, the client's
/// kernel retries after a second: with the usual 128, a few hundred followers that connect together delay other clients
/// by that second.
const BACKLOG: u32 = 4096;

/// Binds a listener to `address`.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Without SO_REUSEADDR, connections of a previous server in TIME_WAIT would block the address after a restart.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections until the server stops, then gives open ones up to `DRAIN_TIMEOUT` to finish.
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
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("closing connections that are still open");
    }
}

/// Everything needed to serve one connection.
struct Entrance {
    app: AppState,
    routes: Router,
    connections: Shares<Client>,
    watcher: Watcher,
}

impl Entrance {
    /// Serves a connection until it closes.
    async fn attend(self, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Send each log line immediately: Nagle's algorithm would hold back small writes.
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
            tracing::debug!(%error, "connection failed");
        }
        metrics::gauge!("k8s_cli_http_connections").decrement(1.0);
        drop(share);
    }
}

/// Answers a connection that exceeds a limit, unless the client is too slow to receive the answer.
async fn refuse(stream: TcpStream, reason: NoShare) {
    metrics::counter!("k8s_cli_http_connections_refused_total").increment(1);
    // A client that has left or does not read gets no answer.
    let _ = timeout(REFUSE_TIMEOUT, tell(stream, reason)).await;
}

/// Writes 503 or 429, except to a liveness probe: it gets its 200, so that the kubelet does not restart a server that
/// is merely busy.
async fn tell(mut stream: TcpStream, reason: NoShare) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let asked = timeout(REFUSED_HEAD_TIMEOUT, stream.read(&mut head)).await;
    let is_probe = asked.is_ok() && head.starts_with(b"GET /healthz ");
    let too_many = |detail| format!("{{\"detail\": \"{detail}\"}}\n");
    let (status, body) = match reason {
        _ if is_probe => ("200 OK", serde_json::to_string(&HealthResponse::OK).unwrap_or_default()),
        NoShare::AllTaken => (
            "503 Service Unavailable",
            too_many("too many concurrent connections; try again later"),
        ),
        NoShare::OneHasMost => (
            "429 Too Many Requests",
            too_many("too many open connections from this client; close one and try again"),
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
