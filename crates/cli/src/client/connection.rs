//! Whose program has the other end of a connection, looked at before the first byte is sent.
//!
//! Whichever account listens at a port of this machine first would be believed, and get the task with its secrets. It is the
//! connection that is looked at, and not the address: between a look there and a connection another one may listen.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use peer::Account;
use tower::{BoxError, Layer, Service};

/// The other end is neither the person's own program nor root's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotTrusted(pub String);

/// Breaks connections to programs of other accounts of this machine.
#[derive(Debug, Clone, Copy)]
pub struct Checked;

/// What connects, and then looks.
#[derive(Debug, Clone)]
pub struct Checking<S>(S);

impl<S> Layer<S> for Checked {
    type Service = Checking<S>;

    fn layer(&self, connector: S) -> Checking<S> {
        Checking(connector)
    }
}

impl<S, R> Service<R> for Checking<S>
where
    S: Service<R, Error = BoxError>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.0.call(request);
        Box::pin(async move {
            let connection = connecting.await?;
            let connected = connection.connected();
            // The person has named the proxy, and it is the proxy that connects further.
            if connected.is_proxied() {
                return Ok(connection);
            }
            let mut about = http::Extensions::new();
            connected.get_extras(&mut about);
            match about.get::<HttpInfo>() {
                Some(ends) => check(ends.local_addr(), ends.remote_addr())?,
                None => return Err(NotTrusted("may be another account's program".to_owned()).into()),
            }
            Ok(connection)
        })
    }
}

/// Refuses the other end of a connection within this machine when it is another account's.
fn check(local: SocketAddr, remote: SocketAddr) -> Result<(), NotTrusted> {
    if !remote.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let who = match peer::server(local, remote) {
        Ok(Some(account)) if account.is_trusted_by(Account::own()) => return Ok(()),
        Ok(Some(account)) => format!("is another account's program (uid {account})"),
        Ok(None) => "may be another account's program: the system does not say whose it is".to_owned(),
        Err(error) => format!("may be another account's program: {error}"),
    };
    Err(NotTrusted(who))
}

/// Whether a request has failed because of who has the other end.
pub fn not_trusted(error: &reqwest::Error) -> Option<&NotTrusted> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{NotTrusted, check};

    #[test]
    fn an_own_program_is_trusted_and_a_connection_of_nobody_is_not() {
        if !peer::IS_TOLD {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let client = TcpStream::connect(remote).unwrap();
        let local = client.local_addr().unwrap();
        assert_eq!(check(local, remote), Ok(()));
        drop(listener);
        let NotTrusted(why) = check(local, remote).unwrap_err();
        assert!(why.contains("does not say whose it is"), "{why}");
        // Who is on another machine is not told apart by accounts.
        assert_eq!(check(local, "192.0.2.1:80".parse().unwrap()), Ok(()));
    }
}
