//! Which account of this machine has the other end of a connection.
//!
//! Every account of a machine can connect to a loopback address, and listen at one. The kernel knows whose socket it is: it
//! is asked by netlink, or, where that is forbidden, its tables in `/proc/net` are read. Other systems than Linux do not say.

#[cfg(target_os = "linux")]
mod netlink;
#[cfg(any(target_os = "linux", test))]
mod table;

pub mod token;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether this system says whose a socket is; else there is a [`token`].
pub const IS_TOLD: bool = cfg!(target_os = "linux");

/// An account, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account(u32);

/// A socket, as the kernel tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no way to ask"))]
struct Socket {
    uid: u32,
    /// 0 when no process has it any more. The kernel then gives 0 for the account, too, which must not be taken for root.
    inode: u32,
    is_listening: bool,
}

impl Account {
    /// An account with this number.
    #[must_use]
    pub fn new(uid: u32) -> Self {
        Self(uid)
    }

    /// The account that this process acts as.
    #[must_use]
    pub fn own() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// Whether a process of `owner` can believe this account: it is the same, or root, who can do everything anyway.
    #[must_use]
    pub fn is_trusted_by(self, owner: Self) -> bool {
        self == owner || self.0 == 0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Whose process has the other end of a connection from `peer` to `local`; `None` when no process has it any more.
///
/// # Errors
/// The system does not say.
pub fn client(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Account>> {
    let socket = find(peer, local)?;
    Ok(socket
        .filter(|socket| !socket.is_listening && socket.inode != 0)
        .map(|socket| Account(socket.uid)))
}

/// Whose process a connection to `address` would reach; `None` when nobody listens there.
///
/// # Errors
/// The system does not say.
pub fn listener(address: SocketAddr) -> io::Result<Option<Account>> {
    let nobody = match address.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = find(address, SocketAddr::new(nobody, 0))?;
    Ok(socket
        .filter(|socket| socket.is_listening)
        .map(|socket| Account(socket.uid)))
}

/// The socket at `local` that is connected to `remote`, else the one that listens at `local`.
fn find(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    // The two families share their connections: an IPv6 socket sees IPv4 peers as mapped addresses.
    let [local, remote] = [local, remote].map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    #[cfg(target_os = "linux")]
    {
        // Sandboxes and unit files often forbid this family of sockets.
        netlink::find(local, remote).or_else(|_| table::find(local, remote))
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this system does not say whose socket {local} to {remote} is"),
        ))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

    use rustix::process::Uid;

    use super::{Account, client, listener, netlink, table};

    /// Runs something as another account, in a thread that ends with it; `None` where that is not permitted.
    fn as_nobody<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let thread = std::thread::spawn(move || {
            if let Err(error) = rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)) {
                println!("skipped: cannot become account {NOBODY}: {error}");
                return None;
            }
            Some(action())
        });
        thread.join().expect("it does not panic")
    }

    const NOBODY: u32 = 65534;

    /// Of both families; where IPv6 is switched off, of one.
    fn addresses() -> Vec<SocketAddr> {
        let all: [SocketAddr; 2] = [([127, 0, 0, 1], 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
        all.into_iter()
            .filter(|address| TcpListener::bind(address).is_ok())
            .collect()
    }

    #[test]
    fn a_client_is_known_by_its_account() {
        for address in addresses() {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let _own = TcpStream::connect(address).unwrap();
            let (accepted, peer) = listener.accept().unwrap();
            assert_eq!(
                client(accepted.local_addr().unwrap(), peer).unwrap(),
                Some(Account::own())
            );
            let Some(_other) = as_nobody(move || TcpStream::connect(address).unwrap()) else {
                return;
            };
            let (accepted, peer) = listener.accept().unwrap();
            let local = accepted.local_addr().unwrap();
            assert_eq!(client(local, peer).unwrap(), Some(Account::new(NOBODY)));
            assert_eq!(table::find(peer, local).unwrap(), netlink::find(peer, local).unwrap());
        }
    }

    #[test]
    fn a_client_of_the_other_family_is_known_too() {
        // Where IPv6 is switched off there is nothing to see.
        let Ok(listener) = TcpListener::bind("[::]:0") else {
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let local = accepted.local_addr().unwrap();
        assert!(peer.is_ipv6() && peer.ip().to_canonical().is_ipv4(), "{peer}");
        assert_eq!(client(local, peer).unwrap(), Some(Account::own()));
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (peer, local) = (canonical(peer), canonical(local));
        assert_eq!(table::find(peer, local).unwrap(), netlink::find(peer, local).unwrap());
        let here: SocketAddr = ([127, 0, 0, 1], port).into();
        assert_eq!(super::listener(here).unwrap(), Some(Account::own()));
        assert!(
            table::find(here, ([0, 0, 0, 0], 0).into())
                .unwrap()
                .unwrap()
                .is_listening
        );
    }

    #[test]
    fn a_client_that_has_closed_is_not_taken_for_root() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client_end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        drop(client_end);
        let local = accepted.local_addr().unwrap();
        assert_eq!(client(local, peer).unwrap(), None);
        let left = table::find(peer, local).unwrap();
        assert!(left.is_none_or(|socket| socket.inode == 0), "{left:?}");
    }

    #[test]
    fn a_listener_is_known_by_its_account() {
        for address in addresses() {
            let Some(other) = as_nobody(move || TcpListener::bind(address).unwrap()) else {
                return;
            };
            let address = other.local_addr().unwrap();
            assert_eq!(listener(address).unwrap(), Some(Account::new(NOBODY)));
            drop(other);
            assert_eq!(listener(address).unwrap(), None);
        }
    }

    #[test]
    fn only_the_same_account_and_root_are_trusted() {
        let [root, alice, bob] = [0, 1000, 1001].map(Account::new);
        assert!(alice.is_trusted_by(alice) && root.is_trusted_by(alice));
        assert!(!bob.is_trusted_by(alice) && !alice.is_trusted_by(root));
    }
}
