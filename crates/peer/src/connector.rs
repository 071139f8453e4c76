//! Checks which account owns the other end of a loopback connection, before the first byte is sent: a layer for the
//! connector of an HTTP client.
//!
//! Any account on this machine can listen on the server's port first, or once the server has ended, and would receive tasks
//! with their secrets, or the outputs of tasks with their token. The check looks at the open connection rather than at the
//! address: another program could start listening between a check of the address and the connect.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use tower::{BoxError, Layer, Service};

use crate::Account;

/// The other end belongs to neither the user's account nor root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UntrustedPeer(pub String);

/// Connector layer that rejects connections to programs of other accounts on this machine.
#[derive(Debug, Clone, Copy)]
pub struct PeerCheckLayer;

/// Connector that checks each new connection.
#[derive(Debug, Clone)]
pub struct PeerCheckConnector<S>(S);

impl<S> Layer<S> for PeerCheckLayer {
    type Service = PeerCheckConnector<S>;

    fn layer(&self, connector: S) -> PeerCheckConnector<S> {
        PeerCheckConnector(connector)
    }
}

impl<S, R> Service<R> for PeerCheckConnector<S>
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
            // The user chose the proxy, and the proxy opens the connection to the server.
            if connected.is_proxied() {
                return Ok(connection);
            }
            let mut extras = http::Extensions::new();
            connected.get_extras(&mut extras);
            match extras.get::<HttpInfo>() {
                Some(info) => check_peer(info.local_addr(), info.remote_addr())?,
                None => return Err(UntrustedPeer("may belong to another account".to_owned()).into()),
            }
            Ok(connection)
        })
    }
}

/// Rejects a loopback connection unless the other end belongs to the user or root.
fn check_peer(local: SocketAddr, remote: SocketAddr) -> Result<(), UntrustedPeer> {
    if !remote.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    let reason = match crate::server_account(local, remote) {
        Ok(Some(account)) if account.is_trusted_by(Account::own()) => return Ok(()),
        Ok(Some(account)) => format!("belongs to another account (UID {account})"),
        Ok(None) => "may belong to another account: its owner is unknown".to_owned(),
        Err(error) => format!("may belong to another account: {error}"),
    };
    Err(UntrustedPeer(reason))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{UntrustedPeer, check_peer};

    #[test]
    fn an_own_program_is_trusted_and_a_connection_of_nobody_is_not() {
        if !crate::REPORTS_OWNERS {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let client = TcpStream::connect(remote).unwrap();
        let local = client.local_addr().unwrap();
        assert_eq!(check_peer(local, remote), Ok(()));
        drop(listener);
        let UntrustedPeer(why) = check_peer(local, remote).unwrap_err();
        assert!(why.contains("its owner is unknown"), "{why}");
        // Accounts are checked on this machine only.
        assert_eq!(check_peer(local, "192.0.2.1:80".parse().unwrap()), Ok(()));
    }
}
