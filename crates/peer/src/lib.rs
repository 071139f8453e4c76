//! Finds the account that owns the other end of a local connection.
//!
//! Every account on a machine can connect to a loopback address and listen on one. The Linux kernel knows the owner of
//! each socket: this crate asks via netlink or, where that is not permitted, reads the tables in `/proc/net`. Other
//! systems do not report the owner.

mod connector;
#[cfg(any(target_os = "linux", test))]
mod lookup;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(any(target_os = "linux", test))]
mod table;

pub mod machine;
pub mod token;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use self::connector::{PeerCheckConnector, PeerCheckLayer, UntrustedPeer};

/// Whether this system reports the owner of a socket. If not, use a [`token`].
pub const REPORTS_OWNERS: bool = cfg!(target_os = "linux");

/// A user account, identified by its UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account(u32);

/// A socket as reported by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no way to ask"))]
struct Socket {
    uid: u32,
    /// 0 if no process owns the socket anymore. The kernel then reports UID 0, too, which must not be mistaken for
    /// root.
    inode: u32,
    is_listening: bool,
}

impl Account {
    /// The account with this UID.
    #[must_use]
    pub fn new(uid: u32) -> Self {
        Self(uid)
    }

    /// The effective account of this process.
    #[must_use]
    pub fn own() -> Self {
        Self(rustix::process::geteuid().as_raw())
    }

    /// Whether a process of `owner` can trust this account: it is the same one, or root, which has full access anyway.
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

/// Whether [`client_account`] returns within microseconds. If not, it may have to read tables, or wait for a timeout in
/// a sandbox that drops netlink requests.
#[must_use]
pub fn is_fast() -> bool {
    #[cfg(target_os = "linux")]
    {
        lookup::is_fast()
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

/// The account that owns the other end of an accepted connection from `peer` to `local`; `None` if no process owns it
/// anymore.
///
/// # Errors
/// Fails if the system does not report the owner.
pub fn client_account(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Account>> {
    let socket = find_socket(peer, local)?;
    Ok(socket
        .filter(|socket| !socket.is_listening && socket.inode != 0)
        .map(|socket| Account(socket.uid)))
}

/// The account that owns, or is about to accept, the other end of an open connection from `local` to `remote`; `None`
/// if no process on this machine does.
///
/// # Errors
/// Fails if the system does not report the owner.
pub fn server_account(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Account>> {
    let connected = || find_socket(remote, local);
    let listening = || find_socket(remote, unspecified(remote));
    Ok(find_server_socket(connected, listening)?.map(|socket| Account(socket.uid)))
}

/// The socket at the server end of a connection. Before it is accepted, no process owns it, and the listening socket
/// tells who will.
fn find_server_socket(
    connected: impl Fn() -> io::Result<Option<Socket>>,
    listening: impl Fn() -> io::Result<Option<Socket>>,
) -> io::Result<Option<Socket>> {
    let has_owner = |socket: &Socket| socket.is_listening || socket.inode != 0;
    match connected()? {
        Some(socket) if !has_owner(&socket) => {}
        found => return Ok(found),
    }
    let listener = listening()?;
    // Look again: if the connection was accepted meanwhile, the listener may be a different one that took the port
    // since.
    match connected()? {
        Some(socket) if !has_owner(&socket) => Ok(listener.filter(|socket| socket.is_listening)),
        found => Ok(found),
    }
}

/// The remote address that the kernel reports for a listening socket.
fn unspecified(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

/// The socket at `local` connected to `remote` or, if there is none, the one listening at `local`.
fn find_socket(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    // An IPv6 socket reports IPv4 peers as mapped addresses, but the kernel expects IPv4 addresses.
    let [local, remote] = [local, remote].map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    #[cfg(target_os = "linux")]
    {
        lookup::find_socket(local, remote, &netlink::find_socket, &table::find_socket)
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this system does not report the owner of the socket from {local} to {remote}"),
        ))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

    use rustix::process::Uid;

    use super::{Account, Socket, client_account, find_server_socket, netlink, server_account, table};

    /// Runs `action` as another account, in its own thread; `None` if that is not permitted and [`SKIP`] is set.
    fn as_nobody<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let thread = std::thread::spawn(move || {
            if let Err(error) = rustix::thread::set_thread_uid(Uid::from_raw(NOBODY)) {
                assert!(
                    std::env::var_os(SKIP).is_some(),
                    "cannot switch to UID {NOBODY}: {error}; run this test as root, or set {SKIP}=1"
                );
                return None;
            }
            Some(action())
        });
        thread.join().expect("the action does not panic")
    }

    const NOBODY: u32 = 65534;

    /// Set to run the tests without permission to switch to another account.
    const SKIP: &str = "K8S_CLI_SKIP_OTHER_ACCOUNT";

    /// Loopback addresses of both families, or only of IPv4 if IPv6 is disabled.
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
                client_account(accepted.local_addr().unwrap(), peer).unwrap(),
                Some(Account::own())
            );
            let Some(_other) = as_nobody(move || TcpStream::connect(address).unwrap()) else {
                return;
            };
            let (accepted, peer) = listener.accept().unwrap();
            let local = accepted.local_addr().unwrap();
            assert_eq!(client_account(local, peer).unwrap(), Some(Account::new(NOBODY)));
            assert_eq!(
                table::find_socket(peer, local).unwrap(),
                netlink::find_socket(peer, local).unwrap()
            );
        }
    }

    #[test]
    fn a_client_of_the_other_family_is_known_too() {
        // Nothing to test if IPv6 is disabled.
        let Ok(listener) = TcpListener::bind("[::]:0") else {
            return;
        };
        let port = listener.local_addr().unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let local = accepted.local_addr().unwrap();
        assert!(peer.is_ipv6() && peer.ip().to_canonical().is_ipv4(), "{peer}");
        assert_eq!(client_account(local, peer).unwrap(), Some(Account::own()));
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (peer, local) = (canonical(peer), canonical(local));
        assert_eq!(
            table::find_socket(peer, local).unwrap(),
            netlink::find_socket(peer, local).unwrap()
        );
        let here: SocketAddr = ([127, 0, 0, 1], port).into();
        assert!(
            table::find_socket(here, ([0, 0, 0, 0], 0).into())
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
        assert_eq!(client_account(local, peer).unwrap(), None);
        let left = table::find_socket(peer, local).unwrap();
        assert!(left.is_none_or(|socket| socket.inode == 0), "{left:?}");
    }

    #[test]
    fn a_server_is_known_before_and_after_it_accepts() {
        for address in addresses() {
            let own = TcpListener::bind(address).unwrap();
            let own_address = own.local_addr().unwrap();
            let client_end = TcpStream::connect(own_address).unwrap();
            let local = client_end.local_addr().unwrap();
            assert_eq!(
                server_account(local, own_address).unwrap(),
                Some(Account::own()),
                "not accepted yet"
            );
            let (accepted, _) = own.accept().unwrap();
            drop(own);
            assert_eq!(
                server_account(local, own_address).unwrap(),
                Some(Account::own()),
                "accepted"
            );
            drop(accepted);
            let Some(other) = as_nobody(move || TcpListener::bind(address).unwrap()) else {
                return;
            };
            let address = other.local_addr().unwrap();
            let client_end = TcpStream::connect(address).unwrap();
            let local = client_end.local_addr().unwrap();
            assert_eq!(
                server_account(local, address).unwrap(),
                Some(Account::new(NOBODY)),
                "not accepted yet"
            );
            let Some((_accepted, other)) = as_nobody(move || (other.accept().unwrap(), other)) else {
                return;
            };
            assert_eq!(
                server_account(local, address).unwrap(),
                Some(Account::new(NOBODY)),
                "accepted"
            );
            drop(other);
        }
    }

    #[test]
    fn a_connection_that_is_accepted_meanwhile_is_who_accepted_its() {
        let socket = |uid, inode, is_listening| Socket {
            uid,
            inode,
            is_listening,
        };
        let (waiting, accepted) = (socket(0, 0, false), socket(7, 5, false));
        let answers = |all: &[Option<Socket>]| {
            let all = std::cell::RefCell::new(all.to_vec());
            move || Ok(all.borrow_mut().remove(0))
        };
        let listener = Some(socket(1000, 9, true));
        let found = |connected: &[Option<Socket>], listening| {
            find_server_socket(answers(connected), move || Ok(listening)).unwrap()
        };
        assert_eq!(found(&[Some(accepted)], None), Some(accepted));
        assert_eq!(found(&[Some(waiting); 2], listener), listener);
        assert_eq!(
            found(&[Some(waiting), Some(accepted)], listener),
            Some(accepted),
            "not the next listener's"
        );
        assert_eq!(found(&[Some(waiting), None], listener), None);
        assert_eq!(found(&[None], listener), None);
    }

    #[test]
    fn only_the_same_account_and_root_are_trusted() {
        let [root, alice, bob] = [0, 1000, 1001].map(Account::new);
        assert!(alice.is_trusted_by(alice) && root.is_trusted_by(alice));
        assert!(!bob.is_trusted_by(alice) && !alice.is_trusted_by(root));
    }
}
