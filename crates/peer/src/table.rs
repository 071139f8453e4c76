//! Looks up a socket in the kernel's TCP tables: <https://man7.org/linux/man-pages/man5/proc_net.5.html>.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Socket;

const TCP_LISTEN: &str = "0A";

struct TableEntry {
    local: SocketAddr,
    remote: SocketAddr,
    socket: Socket,
}

/// The socket at `local` connected to `remote` or, if there is none, the one listening at `local`.
pub(crate) fn find_socket(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    let mut search = Search {
        local,
        remote,
        listening: None,
    };
    if let Some(connected) = search.scan(File::open("/proc/net/tcp")?)? {
        return Ok(Some(connected));
    }
    // The table does not exist if IPv6 is disabled.
    let connected = match File::open("/proc/net/tcp6") {
        Ok(table) => search.scan(table)?,
        Err(_) => None,
    };
    Ok(connected.or(search.listening.map(|entry| entry.socket)))
}

/// A lookup with the best listener so far.
struct Search {
    local: SocketAddr,
    remote: SocketAddr,
    listening: Option<TableEntry>,
}

impl Search {
    /// Reads a table up to the connected socket. Line by line, because the table has a line for each connection on the
    /// machine.
    fn scan(&mut self, table: File) -> io::Result<Option<Socket>> {
        let mut lines = BufReader::with_capacity(64 * 1024, table);
        let mut text = String::new();
        while lines.read_line(&mut text)? > 0 {
            if let Some(entry) = parse_entry(&text) {
                if entry.local == self.local && entry.remote == self.remote {
                    return Ok(Some(entry.socket));
                }
                let accepts_ours = entry.socket.is_listening && accepts(entry.local, self.local);
                // The kernel prefers a listener on the exact address over one on all addresses.
                let rank =
                    |entry: &TableEntry| (entry.local == self.local, entry.local.is_ipv4() == self.local.is_ipv4());
                if accepts_ours && self.listening.as_ref().is_none_or(|best| rank(&entry) >= rank(best)) {
                    self.listening = Some(entry);
                }
            }
            text.clear();
        }
        Ok(None)
    }
}

/// Whether a listener at `listener` accepts connections to `address`.
fn accepts(listener: SocketAddr, address: SocketAddr) -> bool {
    let is_any = listener.ip().is_unspecified() && (listener.is_ipv6() || address.is_ipv4());
    listener.port() == address.port() && (listener.ip() == address.ip() || is_any)
}

fn parse_entry(line: &str) -> Option<TableEntry> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = parse_address(fields.next()?)?;
    let remote = parse_address(fields.next()?)?;
    let is_listening = fields.next()? == TCP_LISTEN;
    // Skip queues, timers, and retransmissions.
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some(TableEntry {
        local,
        remote,
        socket: Socket {
            uid,
            inode,
            is_listening,
        },
    })
}

/// Parses an address: 32-bit words in native byte order, a colon, and the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let mut octets = [0; 16];
    let octets = octets.get_mut(..words.len() / 2)?;
    for (at, word) in octets.chunks_exact_mut(4).enumerate() {
        let word_text = words.get(at * 8..at * 8 + 8)?;
        word.copy_from_slice(&u32::from_str_radix(word_text, 16).ok()?.to_ne_bytes());
    }
    let ip = match *octets {
        [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&*octets).ok()?)),
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}
