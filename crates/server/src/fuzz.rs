//! Invariants that must hold for any input from a client. The targets of `fuzz/` search for inputs that break them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue, Uri, header};

use crate::host_guard::{AllowedHosts, host_name};

/// Every accepted Host header names this machine.
pub fn hosts(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let headers = HeaderMap::from_iter([(header::HOST, value)]);
    let rejection = AllowedHosts::new(Vec::new()).reject(&Uri::from_static("/tasks"), &headers);
    if let Some(reason) = rejection {
        assert!(!reason.is_empty() && reason.len() < 2048);
        return;
    }
    let text = String::from_utf8_lossy(data);
    let name = host_name(&text).expect("an accepted header names a host");
    let is_here = name == "localhost" || name.ends_with(".localhost");
    assert!(is_here || name.parse().is_ok_and(is_loopback), "{text:?} is accepted");
    // A browser that resolves this name connects to this machine and no other.
    if let Ok(address) = text.parse::<SocketAddr>() {
        assert!(is_loopback(address.ip()), "{text:?} is accepted");
    }
}

fn is_loopback(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets()[0] == Ipv4Addr::LOCALHOST.octets()[0],
        IpAddr::V6(address) => address.is_loopback(),
    }
}
