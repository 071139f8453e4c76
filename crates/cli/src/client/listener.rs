//! Whose program listens at an address of this machine, looked at before anything is sent there.
//!
//! Whichever account listens at a port first would be believed, and get the task with its secrets.

use std::net::SocketAddr;

use peer::Account;
use tokio::net::lookup_host;

use super::ApiUrl;
use crate::error::{Error, Result};

/// Refuses a server on this machine that is neither the person's own nor root's.
///
/// # Errors
/// It is another account's, or that cannot be told.
pub async fn check(url: &ApiUrl) -> Result<()> {
    // With TLS the certificate says who it is; where the system does not say whose a socket is, it was greeted with a secret.
    if !url.is_plain() || !peer::IS_TOLD {
        return Ok(());
    }
    for address in addresses(url).await {
        let who = match peer::listener(address) {
            Ok(None) => continue,
            Ok(Some(account)) if account.is_trusted_by(Account::own()) => continue,
            Ok(Some(account)) => format!("is another account's program (uid {account})"),
            Err(error) => format!("may be another account's program: {error}"),
        };
        let url = url.to_string();
        return Err(Error::Untrusted { url, who });
    }
    Ok(())
}

/// The loopback addresses that the host means. One that nobody knows is left for the request to fail with.
async fn addresses(url: &ApiUrl) -> Vec<SocketAddr> {
    let host = (url.host(), url.port().unwrap_or_default());
    let found = lookup_host(host).await.into_iter().flatten();
    found
        .filter(|address| address.ip().to_canonical().is_loopback())
        .collect()
}
