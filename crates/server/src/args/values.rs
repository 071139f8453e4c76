//! Values of flags that are more than text: origins, URLs, domains, and paths.

use std::net::IpAddr;

use http::{HeaderValue, Uri};

/// Where records and logs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveChoice {
    /// Nowhere.
    None,
    /// At this place.
    At(archive::Location),
}

/// A URL at which pods reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertiseUrl {
    /// The URL, without a slash at the end.
    pub url: String,
    /// Its host, in lower case.
    pub host: String,
}

/// Parses a value of `--cors-origin`. `*` is not allowed: with it, every web page could submit tasks.
pub(super) fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let invalid = || format!("invalid origin `{text}`; expected, e.g., `https://tasks.example.com`");
    let uri = text.parse::<Uri>().map_err(|_| invalid())?;
    let is_origin = matches!(uri.scheme_str(), Some("http" | "https"))
        // As browsers write it: in lower case, and without a password.
        && !text.contains('@')
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        && uri.path_and_query().is_none_or(|path| path == "/")
        && !text.ends_with('/');
    HeaderValue::from_str(text)
        .ok()
        .filter(|_| is_origin)
        .ok_or_else(invalid)
}

/// Parses a value of `--archive`.
pub(super) fn parse_archive(text: &str) -> Result<ArchiveChoice, archive::InvalidLocation> {
    match text {
        "none" => Ok(ArchiveChoice::None),
        location => location.parse().map(ArchiveChoice::At),
    }
}

/// Parses a value of `--advertise-url`.
pub(super) fn parse_advertise_url(text: &str) -> Result<AdvertiseUrl, String> {
    let invalid = |why: &str| format!("invalid URL `{text}`{why}; expected, e.g., `http://k8s-cli.tasks.svc:8000`");
    let uri = text.parse::<Uri>().map_err(|_| invalid(""))?;
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let is_url = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_url || authority.contains('@') || uri.query().is_some() || text.contains('#') {
        return Err(invalid(""));
    }
    let host = crate::host_guard::host_name(authority).ok_or_else(|| invalid(""))?;
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical());
    let is_own = address.is_ok_and(|address| address.is_loopback() || address.is_unspecified());
    if is_own || host == "localhost" || host.ends_with(".localhost") {
        return Err(invalid(", which inside a pod is the pod itself"));
    }
    Ok(AdvertiseUrl {
        url: text.trim_end_matches('/').to_owned(),
        host,
    })
}

/// Parses a value of `--ingress-domain`: a DNS name of which every part fits, with 15 characters to spare for the first part
/// of the names below it.
pub(super) fn parse_domain(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 238 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err("expected a domain in lowercase, such as `apps.example.com`".to_owned())
}

/// Parses a value of `--helper-image`, as far as a mistake would only show in pods.
pub(super) fn parse_image(text: &str) -> Result<String, String> {
    let is_image = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let invalid = || format!("invalid image `{text}`; expected, e.g., `registry.example.com/k8s-cli-helper:1.0`");
    is_image.then(|| text.to_owned()).ok_or_else(invalid)
}

/// Parses a value of `--root-path`; a trailing slash is dropped.
pub(super) fn parse_root_path(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let is_segment = |segment: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain)
    };
    let is_valid = match path.strip_prefix('/') {
        Some(rest) => rest.split('/').all(is_segment),
        None => path.is_empty(),
    };
    if is_valid {
        return Ok(path.to_owned());
    }
    Err(format!("invalid path `{text}`; expected, e.g., `/k8s-cli`"))
}

#[cfg(test)]
mod tests {
    use super::{parse_advertise_url, parse_domain, parse_image, parse_origin, parse_root_path};

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        for text in ["https://tasks.example.com", "http://localhost:3000"] {
            assert_eq!(parse_origin(text).unwrap(), text);
        }
        for text in [
            "*",
            "null",
            "tasks.example.com",
            "https://a.example/",
            "https://a.example/x",
            "ftp://a.example",
        ] {
            assert!(parse_origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_root_path_is_a_path_on_the_same_host() {
        for (text, path) in [("", ""), ("/", ""), ("/k8s-cli", "/k8s-cli"), ("/a/b.c/", "/a/b.c")] {
            assert_eq!(parse_root_path(text).unwrap(), path);
        }
        for text in [
            "k8s-cli",
            "//evil.example",
            "/a//b",
            "https://evil.example",
            "/a b",
            "/a?b",
            "/a\r\nb",
        ] {
            assert!(parse_root_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_advertised_url_is_one_that_pods_reach() {
        let parsed = parse_advertise_url("https://Tasks.example.com:8443/k8s-cli/").unwrap();
        assert_eq!(parsed.url, "https://Tasks.example.com:8443/k8s-cli");
        assert_eq!(parsed.host, "tasks.example.com");
        assert_eq!(parse_advertise_url("http://[fd00::1]:8000").unwrap().host, "fd00::1");
        for text in [
            "",
            "tasks:8000",
            "ftp://tasks",
            "http://a@tasks",
            "http://tasks?x",
            "http://tasks#x",
            "http://",
        ] {
            assert!(parse_advertise_url(text).is_err(), "{text}");
        }
        for text in [
            "http://localhost:8000",
            "http://127.0.0.1",
            "http://[::1]:1",
            "http://0.0.0.0:8000",
        ] {
            let error = parse_advertise_url(text).unwrap_err();
            assert!(error.contains("inside a pod is the pod itself"), "{error}");
        }
        assert!(parse_image("registry.example.com/helper@sha256:00").is_ok());
        assert!(parse_image("").is_err() && parse_image("a b").is_err());
    }

    #[test]
    fn a_domain_leaves_room_for_names_below_it() {
        assert_eq!(parse_domain("apps.example.com").unwrap(), "apps.example.com");
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(46)].join(".");
        assert_eq!(longest.len(), 238);
        assert!(parse_domain(&longest).is_ok());
        for text in [
            "",
            "Apps.example.com",
            "*.example.com",
            "a..b",
            "-a.b",
            "a-.b",
            "a.b.",
            &format!("{longest}d"),
        ] {
            assert!(parse_domain(text).is_err(), "{text}");
        }
    }
}
