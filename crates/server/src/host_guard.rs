//! Checks the host that a request names, to prevent DNS rebinding.
//!
//! A malicious web page can resolve its own domain to 127.0.0.1 and then send requests with arbitrary headers to this
//! server; each task it submits would run the page's commands. Such requests still name the page's domain as the host.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, Uri, Version, header};

/// The maximum number of characters of a host that an error repeats.
const MAX_SHOWN_CHARS: usize = 253;

/// The allowed hosts: the names of this machine, and those set with `--allowed-host`.
#[derive(Debug)]
pub(crate) struct AllowedHosts {
    configured: Vec<String>,
}

impl AllowedHosts {
    /// Allows the names of this machine, and `configured`.
    pub(crate) fn new(configured: Vec<String>) -> Self {
        Self { configured }
    }

    /// The reason to reject a request, or `None` if every host that it names is allowed. All `Host` headers and the URI
    /// are checked: a proxy or a library may use any one of them.
    pub(crate) fn reject(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let in_headers = headers.get_all(header::HOST).iter();
        let in_headers = in_headers.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let in_uri = uri.authority().map(|authority| authority.as_str().to_owned());
        let hosts: Vec<String> = in_headers.chain(in_uri).collect();
        if hosts.is_empty() {
            return Some("missing Host header; use `localhost` or `127.0.0.1`".to_owned());
        }
        let disallowed = hosts.iter().find(|host| !self.is_allowed(host))?;
        let shown: String = disallowed.chars().take(MAX_SHOWN_CHARS).collect();
        Some(format!(
            "host `{shown}` is not allowed; use `localhost` or `127.0.0.1`, or set `--allowed-host` on the server to \
             allow this name"
        ))
    }

    fn is_allowed(&self, host: &str) -> bool {
        let Some(name) = host_name(host) else {
            return false;
        };
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let is_loopback = name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        is_local || is_loopback || self.configured.contains(&name)
    }
}

/// The reason why the `Host` header of a request violates HTTP, or `None` if it is fine. HTTP/1.1 requires exactly one
/// header, and status 400 otherwise: <https://www.rfc-editor.org/rfc/rfc9112#section-3.2>.
pub(crate) fn malformed(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    match headers.get_all(header::HOST).iter().count() {
        0 if version >= Version::HTTP_11 => Some("missing Host header"),
        0 | 1 => None,
        _ => Some("more than one Host header"),
    }
}

/// Extracts the name or address from a host with an optional port, in lower case. Returns `None` for an invalid host.
pub(crate) fn host_name(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_string(), port)
        }
        None => {
            let end = host.find(':').unwrap_or(host.len());
            (host[..end].trim_end_matches('.').to_ascii_lowercase(), &host[end..])
        }
    };
    let is_port = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (has_port && !name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

/// Parses a value of `--allowed-host`.
pub(crate) fn parse_allowed_host(text: &str) -> Result<String, String> {
    host_name(text).ok_or_else(|| format!("invalid host name `{text}`; expected, e.g., `tasks.example.com`"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Uri, header};

    use super::{AllowedHosts, parse_allowed_host};

    fn is_answered(hosts: &AllowedHosts, uri: &str, named: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in named {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        hosts.reject(&uri.parse::<Uri>().unwrap(), &headers).is_none()
    }

    #[test]
    fn names_of_this_machine_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:1",
            "127.3.4.5",
            "[::1]:8000",
            "[::1]",
            "[::ffff:127.0.0.1]:8000",
            "a.localhost",
            "localhost.",
            "localhost:",
        ] {
            assert!(is_answered(&AllowedHosts::new(Vec::new()), "/tasks", &[host]), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_refused_whatever_they_begin_with() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[::1].evil.example",
            "[::1]evil.example",
            "[::1",
            "[localhost]",
            "localhost:evil.example",
            "localhost:80:evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "evil.example/localhost",
            "notlocalhost",
            "0.0.0.0",
            "192.168.1.1",
            "[fe80::1]",
            "::1",
        ] {
            assert!(
                !is_answered(&AllowedHosts::new(Vec::new()), "/tasks", &[host]),
                "{host}"
            );
        }
        assert!(
            !is_answered(&AllowedHosts::new(Vec::new()), "/tasks", &[]),
            "no host at all"
        );
    }

    #[test]
    fn every_host_that_a_request_names_counts() {
        let hosts = AllowedHosts::new(Vec::new());
        assert!(!is_answered(&hosts, "/tasks", &["localhost", "evil.example"]));
        assert!(!is_answered(&hosts, "/tasks", &["evil.example", "localhost"]));
        assert!(!is_answered(&hosts, "http://evil.example/tasks", &["localhost"]));
        assert!(is_answered(&hosts, "http://localhost/tasks", &["localhost"]));
    }

    #[test]
    fn a_proxy_may_keep_the_name_that_the_operator_allows() {
        let hosts = AllowedHosts::new(vec![parse_allowed_host("Tasks.Example.com:443").unwrap()]);
        assert!(is_answered(&hosts, "/", &["tasks.example.com"]));
        assert!(is_answered(&hosts, "/", &["TASKS.example.com.:8443"]));
        assert!(!is_answered(&hosts, "/", &["tasks.example.com.evil.example"]));
        assert!(!is_answered(&hosts, "/", &["xtasks.example.com"]));
        assert!(parse_allowed_host("http://tasks.example.com/").is_err());
    }
}
