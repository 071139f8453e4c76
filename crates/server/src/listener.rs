//! Accepts connections within limits and timeouts, and drains them on shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use task::wire::SERVER_HEADER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower::Service;

use crate::app::AppState;
use crate::client::{ClientId, ClientInfo};
use crate::concurrency_limit::{ConcurrencyLimit, LimitReached, UnassignedPermit};
use crate::connection::{self, Activity};
use crate::handlers::health::HealthResponse;
use crate::limits::{DRAIN_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::router::{Routes, router};

/// The pause after a failed accept. The usual cause is that the process is out of file descriptors, and retrying
/// immediately would spin until some are closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Maximum number of connections of accounts that are not accepted, and how long each may take to read the reason.
const MAX_REJECTED_CONNECTIONS: usize = 64;
const REJECTED_CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long sending the response to a rejected connection may take.
const REJECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for the request of a rejected connection.
const REJECTED_HEAD_TIMEOUT: Duration = Duration::from_millis(200);

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
pub async fn serve(listener: TcpListener, app: AppState, connections: ConcurrencyLimit<ClientId>) {
    let routes = router(app.clone());
    let graceful = GracefulShutdown::new();
    let rejected = Arc::new(Semaphore::new(MAX_REJECTED_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = app.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match connections.try_acquire_unassigned() {
                Ok(permit) => {
                    let task = ConnectionTask {
                        app: app.clone(),
                        routes: routes.clone(),
                        connections: connections.clone(),
                        watcher: graceful.watcher(),
                        rejected: Arc::clone(&rejected),
                    };
                    tokio::spawn(task.serve(stream, peer, permit));
                }
                Err(limit) => drop(tokio::spawn(reject(stream, limit))),
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
struct ConnectionTask {
    app: AppState,
    routes: Routes,
    connections: ConcurrencyLimit<ClientId>,
    watcher: Watcher,
    /// For connections of accounts that are not accepted.
    rejected: Arc<Semaphore>,
}

impl ConnectionTask {
    /// Serves a connection until it closes.
    async fn serve(self, stream: TcpStream, peer: SocketAddr, permit: UnassignedPermit) {
        connection::set_options(&stream);
        let client = ClientInfo::identify(&stream, peer).await;
        let permit = match self.connections.assign(permit, client.id) {
            Ok(permit) => permit,
            // In a box, because its buffer would be a part of the memory of every connection.
            Err(limit) => return Box::pin(reject(stream, limit)).await,
        };
        let rejected = self.app.access.reject(&client);
        // Accounts that are not accepted must not use up the connections of those that are.
        let is_rejected = rejected.is_some();
        let permit = if is_rejected {
            match Arc::clone(&self.rejected).try_acquire_owned() {
                Ok(permit) => Either::Right(permit),
                Err(_) => return,
            }
        } else {
            Either::Left(permit)
        };
        let activity = Activity::default();
        let stream = connection::layer(stream, &activity, self.app.idle_timeout);
        let routes = self.routes;
        let service = service_fn(move |request: Request<Incoming>| {
            let open = activity.begin(&request);
            let mut request = request.map(|body| activity.track_body(body));
            request.extensions_mut().insert(client.id);
            if let Some(rejected) = &rejected {
                request.extensions_mut().insert(rejected.clone());
            }
            let response = routes.clone().call(request);
            async move { response.await.map(|response| open.track(response)) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .keep_alive(!is_rejected)
            // The layers of the stream have timeouts for reading and for idle connections.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        metrics::gauge!("k8s_cli_http_connections").increment(1.0);
        let limit = if is_rejected {
            REJECTED_CONNECTION_TIMEOUT
        } else {
            Duration::MAX
        };
        if let Ok(Err(error)) = timeout(limit, self.watcher.watch(connection)).await {
            tracing::debug!(%error, "connection failed");
        }
        metrics::gauge!("k8s_cli_http_connections").decrement(1.0);
        drop(permit);
    }
}

/// Answers a connection that exceeds a limit, unless the client is too slow to receive the answer.
async fn reject(stream: TcpStream, limit: LimitReached) {
    metrics::counter!("k8s_cli_http_connections_refused_total").increment(1);
    // A client that has left or does not read gets no answer.
    let _ = timeout(REJECT_TIMEOUT, send_rejection(stream, limit)).await;
}

/// Writes 503 or 429, except to a liveness probe: it gets its 200, so that the kubelet does not restart a server that
/// is merely busy.
async fn send_rejection(mut stream: TcpStream, limit: LimitReached) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let received = timeout(REJECTED_HEAD_TIMEOUT, stream.read(&mut head)).await;
    let is_probe = received.is_ok() && head.starts_with(b"GET /healthz ");
    let too_many = |detail| format!("{{\"detail\": \"{detail}\"}}\n");
    let (status, body) = match limit {
        _ if is_probe => ("200 OK", serde_json::to_string(&HealthResponse::OK).unwrap_or_default()),
        LimitReached::Total => (
            "503 Service Unavailable",
            too_many("too many concurrent connections; try again later"),
        ),
        LimitReached::PerOwner => (
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
    stream.shutdown().await?;
    // If the client is still sending, closing the connection would reset it, and the client might not see the response.
    let _ = timeout(
        REJECTED_HEAD_TIMEOUT,
        tokio::io::copy(&mut stream, &mut tokio::io::sink()),
    )
    .await;
    Ok(())
}
