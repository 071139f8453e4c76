//! Looks up one socket via netlink: <https://man7.org/linux/man-pages/man7/sock_diag.7.html>.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use super::Socket;

/// Sizes in bytes: `nlmsghdr`, `inet_diag_req_v2`, and `inet_diag_msg`.
const HEADER_SIZE: usize = 16;
const REQUEST_SIZE: usize = 56;
const RESPONSE_SIZE: usize = 72;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;

/// The index of the loopback device, which is 1 in every network namespace. Needed to find a listener bound to the
/// device.
const LOOPBACK_INDEX: u32 = 1;

/// The kernel responds immediately; the timeout is for sandboxes that drop the request.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The socket at `local` connected to `remote` or, if there is none, the one listening at `local`.
pub(crate) fn find_socket(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        flags,
        Some(netlink::SOCK_DIAG),
    )?;
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(RECEIVE_TIMEOUT))?;
    send(&socket, &encode_request(local, remote), SendFlags::empty())?;
    let mut response = [0; 512];
    let (length, _) = recv(&socket, &mut response[..], RecvFlags::empty())?;
    parse_response(&response[..length])
}

fn encode_request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = match local {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let length = u32::try_from(HEADER_SIZE + REQUEST_SIZE).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER_SIZE + REQUEST_SIZE);
    message.extend(length.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // Sequence number and port ID; not needed for a single request.
    message.extend([u8::try_from(family.as_raw()).unwrap_or_default(), IPPROTO_TCP, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes()); // All states.
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    message.extend(octets(local.ip()));
    message.extend(octets(remote.ip()));
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend([u8::MAX; 8]); // No cookie.
    message
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn parse_response(response: &[u8]) -> io::Result<Option<Socket>> {
    let truncated = || io::Error::new(io::ErrorKind::UnexpectedEof, "the response of the kernel is truncated");
    let kind = response.get(4..6).ok_or_else(truncated)?;
    let body = response.get(HEADER_SIZE..).ok_or_else(truncated)?;
    let read_u32 = |at: usize| -> io::Result<u32> {
        let bytes = body.get(at..at + 4).ok_or_else(truncated)?;
        Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if kind == NLMSG_ERROR.to_ne_bytes() {
        let code = read_u32(0)?.cast_signed();
        let error = io::Error::from_raw_os_error(-code);
        return match error.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        };
    }
    if kind != SOCK_DIAG_BY_FAMILY.to_ne_bytes() || body.len() < RESPONSE_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "unexpected response of the kernel",
        ));
    }
    Ok(Some(Socket {
        uid: read_u32(64)?,
        inode: read_u32(68)?,
        is_listening: body[1] == TCP_LISTEN,
    }))
}
