//! Serves the engine's API over TLS on a loopback address, to clients with the token.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::header;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::kubeconfig::Credentials;
use crate::error::Error;
use crate::status_error::StatusError;

/// Time limit for the TLS handshake, and for the head of each request. Without it, silent clients would use up all
/// connections.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of concurrent connections: several for each of a hundred users' `kubectl`, and far below the limit of
/// open files.
const MAX_CONNECTIONS: usize = 512;

/// Serves in the background until `stopping` is cancelled; returns the bound address. The socket is bound before this
/// returns, so that the caller sees the error if the port is in use.
pub(crate) async fn listen(
    address: SocketAddr,
    credentials: &Credentials,
    router: Router,
    stopping: CancellationToken,
) -> Result<SocketAddr, Error> {
    let failed = |source| Error::Listen { address, source };
    if !address.ip().is_loopback() {
        return Err(failed(io::Error::other(
            "not a loopback address; use `127.0.0.1` or `::1`",
        )));
    }
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&credentials.tls));
    let token = credentials.token();
    let router = router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let token = token.clone();
        async move { authenticate(&token, request, next).await }
    }));
    let ending = stopping.clone();
    let serve = move |stream| serve(stream, acceptor.clone(), router.clone(), stopping.clone());
    tokio::spawn(async move {
        let accepting = accept(&listener, MAX_CONNECTIONS, serve);
        ending.run_until_cancelled(accepting).await;
    });
    Ok(local)
}

/// Accepts connections indefinitely, at most `limit` at a time; further ones wait in the kernel's backlog.
async fn accept<F>(listener: &TcpListener, limit: usize, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limit));
    loop {
        // The semaphore is never closed, so there is always a permit.
        let permit = Arc::clone(&slots).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = serve(stream);
                tokio::spawn(async move {
                    let _permit = permit;
                    served.await;
                });
            }
            Err(error) => {
                // Typically too many open files. The connection stays in the backlog, so retrying without a pause would
                // spin.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn authenticate(token: &super::kubeconfig::BearerToken, request: Request, next: Next) -> Response {
    let header = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if token.matches_header(header) {
        return next.run(request).await;
    }
    let error = StatusError::unauthorized();
    (error.code, Json(error.into_status())).into_response()
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, router: Router, stopping: CancellationToken) {
    // Watch events are small; Nagle's algorithm would hold them back.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(CLIENT_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CLIENT_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // On shutdown, connections are dropped: waiting for their requests could take forever, since they may be watches.
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "connection failed");
        },
        () = stopping.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::accept;

    /// Writes a byte once served, and holds the connection until the client disconnects.
    async fn greet(mut stream: TcpStream) {
        stream.write_all(b"!").await.unwrap();
        let _ = stream.read(&mut [0]).await;
    }

    #[tokio::test]
    async fn more_connections_than_there_may_be_wait_until_others_are_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { accept(&listener, 2, greet).await });
        let mut served = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
            served.push(stream);
        }
        let mut waiting = TcpStream::connect(address).await.unwrap();
        let early = timeout(Duration::from_millis(200), waiting.read_exact(&mut [0])).await;
        assert!(early.is_err(), "served a third connection despite a limit of two");
        served.pop();
        waiting.read_exact(&mut [0]).await.unwrap();
    }
}
