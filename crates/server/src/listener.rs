//! Accepting connections: with limits, a time for the head of a request and for the reading of its answer, and an end.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use task::status::SERVER_HEADER;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::app::AppState;
use crate::limits::{DRAIN_TIMEOUT, HEAD_TIMEOUT, MAX_HEAD_BYTES, MAX_HEADERS, WRITE_TIMEOUT};
use crate::router::router;
use crate::shares::{NoShare, Share, Shares};

/// The pause after a connection could not be accepted: there are no file descriptors, and some must be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection too many may take to be told so.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it is waited for what it asks.
const REFUSED_HEAD_TIMEOUT: Duration = Duration::from_millis(200);

/// What `/healthz` answers.
const HEALTHY: &str = "{\"status\":\"ok\",\"service\":\"k8s-cli-api\"}";

/// How many connections may wait to be accepted; the system may allow fewer. One that finds no room comes again after a
/// second, and with the usual 128 a few hundred followers that come at once made others wait for that.
const BACKLOG: u32 = 4096;

/// How much of an IPv6 address tells one client from another: a network of its own has the rest to choose from.
const CLIENT_PREFIX: u128 = !0 << 64;

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
pub async fn serve(listener: TcpListener, app: AppState, connections: Shares<IpAddr>) {
    let routes = router(app.clone());
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = app.stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match connections.take(client_of(peer)) {
                Ok(share) => connect(stream, &app, routes.clone(), share, &graceful),
                Err(reason) => {
                    metrics::counter!("k8s_cli_http_connections_refused_total").increment(1);
                    tokio::spawn(timeout(REFUSE_TIMEOUT, refuse(stream, reason)));
                }
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

fn connect(stream: TcpStream, app: &AppState, routes: Router, share: Share<IpAddr>, graceful: &GracefulShutdown) {
    // Log lines are small, and each shall be seen at once.
    let _ = stream.set_nodelay(true);
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let refused = app.guard.refusal(ends);
    let routes = routes.map_request(move |mut request: Request<Incoming>| {
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
        .serve_connection(TokioIo::new(progressing(stream)), TowerToHyperService::new(routes));
    let connection = graceful.watch(connection);
    metrics::gauge!("k8s_cli_http_connections").increment(1.0);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection broke");
        }
        metrics::gauge!("k8s_cli_http_connections").decrement(1.0);
        drop(share);
    });
}

/// A connection that breaks when its client does not read for a while what is written to it.
fn progressing<S: AsyncRead + AsyncWrite>(stream: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(stream)
}

/// What is counted as one client.
fn client_of(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & CLIENT_PREFIX).into(),
        address => address,
    }
}

/// What a connection too many is told; but whether the process lives it is told like every other, so that no probe restarts a
/// server that has much to do.
async fn refuse(mut stream: TcpStream, reason: NoShare) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let asked = timeout(REFUSED_HEAD_TIMEOUT, stream.read(&mut head)).await;
    let is_probe = asked.is_ok() && head.starts_with(b"GET /healthz ");
    let too_many = |detail| format!("{{\"detail\": \"{detail}\"}}\n");
    let (status, body) = match reason {
        _ if is_probe => ("200 OK", HEALTHY.to_owned()),
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, sleep};

    use super::{client_of, progressing};
    use crate::limits::WRITE_TIMEOUT;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (_client, server) = duplex(1000);
        let start = Instant::now();
        let written = progressing(server).write_all(&[0; 10_000]).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() < WRITE_TIMEOUT * 2, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_everything() {
        let (mut client, server) = duplex(1000);
        let writing = tokio::spawn(async move { progressing(server).write_all(&[0; 10_000]).await });
        let mut piece = [0; 1000];
        for _ in 0..10 {
            sleep(WRITE_TIMEOUT / 2).await;
            client.read_exact(&mut piece).await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }

    #[test]
    fn a_network_of_ones_own_is_one_client() {
        let client = |address: &str| client_of(address.parse().unwrap());
        assert_eq!(client("[2001:db8::1]:1"), client("[2001:db8::ffff]:2"));
        assert_ne!(client("[2001:db8::1]:1"), client("[2001:db8:0:1::1]:1"));
        assert_eq!(client("[::ffff:192.0.2.1]:1"), client("192.0.2.1:2"));
        assert_ne!(client("192.0.2.1:1"), client("192.0.2.2:1"));
    }
}
