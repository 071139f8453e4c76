//! The layers between a TCP connection and HTTP: timeouts, and how an interrupted response ends.

mod activity;
mod read_timeout;
mod reset_on_abort;
mod write_timeout;

use std::time::Duration;

pub(crate) use activity::Activity;
use read_timeout::ReadTimeoutStream;
use reset_on_abort::ResetOnAbort;
use tokio::net::TcpStream;
use write_timeout::WriteTimeoutStream;

/// A connection with all of its layers.
pub(crate) type ConnectionStream = WriteTimeoutStream<ReadTimeoutStream<ResetOnAbort>>;

/// Adds the layers to a connection that may stay idle between two requests for `idle_timeout`.
pub(crate) fn layer(stream: TcpStream, activity: &Activity, idle_timeout: Duration) -> ConnectionStream {
    let stream = ResetOnAbort::new(stream, activity.clone());
    WriteTimeoutStream::new(ReadTimeoutStream::new(stream, activity.clone(), idle_timeout))
}
