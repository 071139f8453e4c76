//! The kernel's tables of TCP sockets: <https://man7.org/linux/man-pages/man5/proc_net.5.html>.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Socket;

const TCP_LISTEN: &str = "0A";

/// A line of a table.
struct Line {
    local: SocketAddr,
    remote: SocketAddr,
    socket: Socket,
}

/// The socket at `local` that is connected to `remote`, else the one that listens at `local`.
pub fn find(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    let mut tables = std::fs::read_to_string("/proc/net/tcp")?;
    // Where IPv6 is switched off there is none.
    tables.push_str(&std::fs::read_to_string("/proc/net/tcp6").unwrap_or_default());
    let lines: Vec<Line> = tables.lines().filter_map(parse).collect();
    let connected = lines.iter().find(|line| line.local == local && line.remote == remote);
    let listening = || {
        let reached = lines
            .iter()
            .filter(|line| line.socket.is_listening && is_reached(line.local, local));
        // A socket of the very address takes a connection before one of all addresses.
        reached.max_by_key(|line| (line.local == local, line.local.is_ipv4() == local.is_ipv4()))
    };
    Ok(connected.or_else(listening).map(|line| line.socket))
}

/// Whether a connection to `address` can reach who listens at `at`.
fn is_reached(at: SocketAddr, address: SocketAddr) -> bool {
    let is_any = at.ip().is_unspecified() && (at.is_ipv6() || address.is_ipv4());
    at.port() == address.port() && (at.ip() == address.ip() || is_any)
}

fn parse(line: &str) -> Option<Line> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is_listening = *fields.get(3)? == TCP_LISTEN;
    Some(Line {
        local: address(fields.get(1)?)?,
        remote: address(fields.get(2)?)?,
        socket: Socket {
            uid: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
            is_listening,
        },
    })
}

/// Words of 32 bits in the machine's order, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..words.len() / 8)
        .map(|index| {
            Some(
                u32::from_str_radix(words.get(index * 8..index * 8 + 8)?, 16)
                    .ok()?
                    .to_ne_bytes(),
            )
        })
        .collect();
    let octets = words?.concat();
    let ip = match octets.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}
