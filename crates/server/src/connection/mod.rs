//! The layers between a TCP connection and HTTP: timeouts, and how a connection ends.

mod activity;
mod close;
mod http2_preface;
mod read_timeout;
mod write_timeout;

use std::time::Duration;

pub(crate) use activity::Activity;
use close::CloseStream;
use read_timeout::ReadTimeoutStream;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use write_timeout::WriteTimeoutStream;

/// A connection with all of its layers.
pub(crate) type ConnectionStream = WriteTimeoutStream<ReadTimeoutStream<CloseStream>>;

/// When to check a connection on which nothing arrives, how often, and after how many checks without a reply to close it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_CHECKS: u32 = 4;

/// Sets the options of a connection. What the system does not support is left as it is.
pub(crate) fn set_options(stream: &TcpStream) {
    // Send each log line immediately: Nagle's algorithm would hold back small writes.
    let _ = stream.set_nodelay(true);
    // Without these checks, the stream of a client whose machine has vanished stays open while its task is silent.
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE_CHECKS);
}

/// Adds the layers to a connection that may stay idle between two requests for `idle_timeout`.
pub(crate) fn layer(stream: TcpStream, activity: &Activity, idle_timeout: Duration) -> ConnectionStream {
    let stream = CloseStream::new(stream, activity.clone());
    WriteTimeoutStream::new(ReadTimeoutStream::new(stream, activity.clone(), idle_timeout))
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_client_that_has_vanished_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        super::set_options(&stream);
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), super::KEEPALIVE_IDLE);
    }
}
