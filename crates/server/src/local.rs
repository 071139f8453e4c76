//! Who may ask a server whose tasks run on this machine.

use std::net::IpAddr;

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

/// Answers only requests that name this machine as their host.
///
/// A web page can make its own name mean 127.0.0.1, and then send requests to this server with any header ("DNS
/// rebinding"); each task would be a command of the page's on this machine. Such requests still name the page's host.
pub async fn local_hosts_only(request: Request, next: Next) -> Response {
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    let host = named.or_else(|| request.uri().host()).unwrap_or_default();
    if is_local(host) {
        return next.run(request).await;
    }
    let detail = "tasks run on this machine, so requests must name it as their host; use localhost or 127.0.0.1";
    (StatusCode::FORBIDDEN, Json(json!({"detail": detail}))).into_response()
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:1",
            "127.3.4.5",
            "[::1]:8000",
            "a.localhost",
            "localhost.",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "example.com:8000",
            "localhost.example.com",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1.example.com",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
