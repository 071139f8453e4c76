//! Identifies the client and the account that a connection comes from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use peer::Account;
use task::UserName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// The part of an IPv6 address that identifies a client: a /64 network can use any of the remaining bits.
const CLIENT_PREFIX: u128 = !0 << 64;

/// Limits concurrent account lookups on systems where they can be slow. Without it, hundreds of followers that connect
/// together would start hundreds of threads and delay all responses.
static ACCOUNT_LOOKUPS: Semaphore = Semaphore::const_new(4);

/// What limits count as one client. Stored in the extensions of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientId {
    /// An account of this machine. All accounts share the same addresses.
    Account(Account),
    /// Another machine or, with IPv6, its network.
    Address(IpAddr),
}

impl ClientId {
    /// The client of a request that did not arrive over a connection, as in tests.
    pub const UNKNOWN: Self = Self::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    fn new(account: Option<Account>, address: SocketAddr) -> Self {
        match (account, address.ip().to_canonical()) {
            (Some(account), _) => Self::Account(account),
            (None, IpAddr::V6(address)) => Self::Address(Ipv6Addr::from(u128::from(address) & CLIENT_PREFIX).into()),
            (None, address) => Self::Address(address),
        }
    }
}

/// Whom a request's memory is charged to.
#[derive(Debug, Clone)]
pub struct Requester {
    /// Where the connection comes from. All users of a proxy are one client.
    pub client: ClientId,
    /// The user in the X-User header. Without a proxy, a client can claim to be any user, so this alone is no limit.
    pub user: Option<UserName>,
}

/// The other end of a connection.
#[derive(Debug)]
pub struct ClientInfo {
    pub id: ClientId,
    /// The account of the client's process; `None` if it is not on this machine or the connection is closed.
    pub account: io::Result<Option<Account>>,
}

impl ClientInfo {
    /// Identifies the client of a connection. Where the kernel may be slow to answer, it is asked on a blocking thread:
    /// in a sandbox, an unsuccessful lookup can take a second.
    pub async fn identify(stream: &TcpStream, peer: SocketAddr) -> Self {
        let account = match stream.local_addr() {
            Ok(_) if !peer.ip().to_canonical().is_loopback() => Ok(None),
            Ok(local) if peer::is_fast() => peer::client_account(local, peer),
            Ok(local) => {
                // Acquiring cannot fail, because the semaphore is never closed.
                let _permit = ACCOUNT_LOOKUPS.acquire().await;
                let asked = tokio::task::spawn_blocking(move || peer::client_account(local, peer)).await;
                asked.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            Err(error) => Err(error),
        };
        let known = account.as_ref().ok().copied().flatten();
        Self {
            id: ClientId::new(known, peer),
            account,
        }
    }
}

#[cfg(test)]
mod tests {
    use peer::Account;
    use tokio::net::{TcpListener, TcpStream};

    use super::{ClientId, ClientInfo};

    #[test]
    fn a_network_of_ones_own_is_one_client() {
        let client = |address: &str| ClientId::new(None, address.parse().unwrap());
        assert_eq!(client("[2001:db8::1]:1"), client("[2001:db8::ffff]:2"));
        assert_ne!(client("[2001:db8::1]:1"), client("[2001:db8:0:1::1]:1"));
        assert_eq!(client("[::ffff:192.0.2.1]:1"), client("192.0.2.1:2"));
        assert_ne!(client("192.0.2.1:1"), client("192.0.2.2:1"));
    }

    #[test]
    fn accounts_of_one_address_are_several_clients() {
        let client = |uid: u32| ClientId::new(Some(Account::new(uid)), "127.0.0.1:1".parse().unwrap());
        assert_eq!(client(1), client(1));
        assert_ne!(client(1), client(2));
    }

    #[tokio::test]
    async fn who_connects_from_here_is_known_where_the_system_says_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let client = ClientInfo::identify(&stream, peer).await;
        if peer::REPORTS_OWNERS {
            assert_eq!(client.id, ClientId::Account(Account::own()));
        } else {
            assert!(client.account.is_err());
        }
    }
}
