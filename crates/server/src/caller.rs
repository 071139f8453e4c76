//! Whom a connection comes from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use peer::Account;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How much of an IPv6 address tells one client from another: a network of its own has the rest to choose from.
const CLIENT_PREFIX: u128 = !0 << 64;

/// How many look at once where that may take long: hundreds of followers that come at once would otherwise start hundreds of
/// threads, and everybody's answers would wait for those.
static LOOKS: Semaphore = Semaphore::const_new(4);

/// What is counted as one client. An extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// An account of this machine: they share its addresses.
    Account(Account),
    /// Another machine, or a network.
    Address(IpAddr),
}

impl Client {
    /// Of a request that came over no connection.
    pub const UNKNOWN: Self = Self::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    fn new(account: Option<Account>, address: SocketAddr) -> Self {
        match (account, address.ip().to_canonical()) {
            (Some(account), _) => Self::Account(account),
            (None, IpAddr::V6(address)) => Self::Address(Ipv6Addr::from(u128::from(address) & CLIENT_PREFIX).into()),
            (None, address) => Self::Address(address),
        }
    }
}

/// Who has the other end of a connection.
#[derive(Debug)]
pub struct Caller {
    /// What it is counted as.
    pub client: Client,
    /// Whose process it is, where it is one of this machine and the system says so.
    pub account: io::Result<Option<Account>>,
}

impl Caller {
    /// Looks. The kernel is asked in a thread where nobody else is held up: in a sandbox it may take a second to say nothing.
    pub async fn of(stream: &TcpStream, peer: SocketAddr) -> Self {
        let account = match stream.local_addr() {
            Ok(_) if !peer.ip().to_canonical().is_loopback() => Ok(None),
            Ok(local) if peer::is_prompt() => peer::client(local, peer),
            Ok(local) => {
                // It is never closed.
                let _turn = LOOKS.acquire().await;
                let asked = tokio::task::spawn_blocking(move || peer::client(local, peer)).await;
                asked.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            Err(error) => Err(error),
        };
        let known = account.as_ref().ok().copied().flatten();
        Self {
            client: Client::new(known, peer),
            account,
        }
    }
}

#[cfg(test)]
mod tests {
    use peer::Account;
    use tokio::net::{TcpListener, TcpStream};

    use super::{Caller, Client};

    #[test]
    fn a_network_of_ones_own_is_one_client() {
        let client = |address: &str| Client::new(None, address.parse().unwrap());
        assert_eq!(client("[2001:db8::1]:1"), client("[2001:db8::ffff]:2"));
        assert_ne!(client("[2001:db8::1]:1"), client("[2001:db8:0:1::1]:1"));
        assert_eq!(client("[::ffff:192.0.2.1]:1"), client("192.0.2.1:2"));
        assert_ne!(client("192.0.2.1:1"), client("192.0.2.2:1"));
    }

    #[test]
    fn accounts_of_one_address_are_several_clients() {
        let client = |uid: u32| Client::new(Some(Account::new(uid)), "127.0.0.1:1".parse().unwrap());
        assert_eq!(client(1), client(1));
        assert_ne!(client(1), client(2));
    }

    #[tokio::test]
    async fn who_connects_from_here_is_known_where_the_system_says_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let caller = Caller::of(&stream, peer).await;
        if peer::IS_TOLD {
            assert_eq!(caller.client, Client::Account(Account::own()));
        } else {
            assert!(caller.account.is_err());
        }
    }
}
