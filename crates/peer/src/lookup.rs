//! Asks the kernel via netlink, with the tables in `/proc/net` as a fallback.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Socket;

/// A lookup of the socket at the first address that is connected to the second or, if there is none, listens at the
/// first.
type Lookup<'a> = dyn Fn(SocketAddr, SocketAddr) -> io::Result<Option<Socket>> + 'a;

/// Set if netlink permanently does not work: sandboxes and unit files often forbid this address family, and some
/// kernels are built without `sock_diag`. Saves the failing attempt on every later lookup.
static NETLINK_IS_UNSUPPORTED: AtomicBool = AtomicBool::new(false);

/// Set once netlink has found a socket. It answers within microseconds.
static NETLINK_WORKS: AtomicBool = AtomicBool::new(false);

/// Whether the next lookup will return within microseconds.
pub(crate) fn is_fast() -> bool {
    NETLINK_WORKS.load(Ordering::Relaxed) && !NETLINK_IS_UNSUPPORTED.load(Ordering::Relaxed)
}

pub(crate) fn find_socket(
    local: SocketAddr,
    remote: SocketAddr,
    netlink: &Lookup<'_>,
    table: &Lookup<'_>,
) -> io::Result<Option<Socket>> {
    let observed_netlink = |local, remote| {
        let found = netlink(local, remote);
        if matches!(found, Ok(Some(_))) {
            NETLINK_WORKS.store(true, Ordering::Relaxed);
        }
        found
    };
    find_with(local, remote, &observed_netlink, table, &NETLINK_IS_UNSUPPORTED)
}

fn find_with(
    local: SocketAddr,
    remote: SocketAddr,
    netlink: &Lookup<'_>,
    table: &Lookup<'_>,
    netlink_is_unsupported: &AtomicBool,
) -> io::Result<Option<Socket>> {
    if !netlink_is_unsupported.load(Ordering::Relaxed) {
        match netlink(local, remote) {
            Ok(Some(socket)) => return Ok(Some(socket)),
            // A kernel without support for TCP in `sock_diag` also reports "no such socket". Verify with the other end,
            // which belongs to this process and must exist.
            Ok(None) if netlink(remote, local).is_ok_and(|own| own.is_some()) => return Ok(None),
            Ok(None) => {}
            Err(error) => netlink_is_unsupported.store(is_permanent(&error), Ordering::Relaxed),
        }
    }
    match table(local, remote)? {
        Some(socket) => Ok(Some(socket)),
        // The table is not a consistent snapshot: while sockets come and go, a read can miss one.
        None => table(local, remote),
    }
}

/// Whether the error is permanent, unlike a temporary lack of file descriptors or memory.
fn is_permanent(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, TimedOut, Unsupported, WouldBlock};
    let is_unsupported = [
        rustix::io::Errno::AFNOSUPPORT,
        rustix::io::Errno::PROTONOSUPPORT,
        rustix::io::Errno::NOSYS,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    is_unsupported || matches!(error.kind(), PermissionDenied | TimedOut | Unsupported | WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::AtomicBool;

    use super::{Lookup, Socket, find_with};

    const SOCKET: Socket = Socket {
        uid: 1000,
        inode: 5,
        is_listening: false,
    };

    fn ends() -> [SocketAddr; 2] {
        [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into()]
    }

    fn found(netlink: &Lookup<'_>, table: &Lookup<'_>) -> Option<Socket> {
        let [local, remote] = ends();
        find_with(local, remote, netlink, table, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn a_kernel_without_an_answer_for_tcp_is_not_believed() {
        let nothing = |_, _| Ok(None);
        assert_eq!(found(&nothing, &|_, _| Ok(Some(SOCKET))), Some(SOCKET));
        assert_eq!(found(&nothing, &nothing), None);
        // A kernel that finds our own end is trusted.
        let [local, _] = ends();
        let other_end = move |at, _| Ok((at != local).then_some(SOCKET));
        assert_eq!(found(&other_end, &|_, _| panic!("the fallback must not be used")), None);
        assert_eq!(
            found(&|_, _| Ok(Some(SOCKET)), &|_, _| panic!(
                "the fallback must not be used"
            )),
            Some(SOCKET)
        );
    }

    #[test]
    fn a_socket_that_the_table_passed_by_is_looked_for_again() {
        let looks = std::rc::Rc::new(Cell::new(0));
        let counted = std::rc::Rc::clone(&looks);
        let table = move |_, _| {
            counted.set(counted.get() + 1);
            Ok((counted.get() == 2).then_some(SOCKET))
        };
        assert_eq!(found(&|_, _| Ok(None), &table), Some(SOCKET));
        assert_eq!(looks.get(), 2);
    }

    #[test]
    fn netlink_that_is_refused_is_asked_once_and_one_that_fails_is_asked_again() {
        let [local, remote] = ends();
        for (kind, expected) in [(io::ErrorKind::PermissionDenied, 1), (io::ErrorKind::OutOfMemory, 2)] {
            let asked = std::rc::Rc::new(Cell::new(0));
            let counted = std::rc::Rc::clone(&asked);
            let netlink = move |_, _| {
                counted.set(counted.get() + 1);
                Err(kind.into())
            };
            let netlink_is_unsupported = AtomicBool::new(false);
            for _ in 0..2 {
                let found = find_with(
                    local,
                    remote,
                    &netlink,
                    &|_, _| Ok(Some(SOCKET)),
                    &netlink_is_unsupported,
                );
                assert_eq!(found.unwrap(), Some(SOCKET));
            }
            assert_eq!(asked.get(), expected, "{kind}");
        }
    }
}
