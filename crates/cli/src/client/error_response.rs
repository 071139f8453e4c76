//! Turns error responses into errors: those of the server, and those of proxies and other programs.

use peer::UntrustedPeer;
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use task::wire::SERVER_HEADER;

use super::untrusted_peer::find_untrusted_peer;
use super::url::ApiUrl;
use crate::error::{Error, ErrorMessage};
use crate::field_error::FieldError;
use crate::output::{escape_controls, escape_json_strings};

/// Limit for showing a response body that is not JSON.
const MAX_BODY_CHARACTERS: usize = 300;

#[derive(Deserialize)]
struct ErrorBody {
    detail: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// The first request, which checks whether a k8s-cli server responds.
    Handshake,
    /// Any later request. If the response is not from the server now, a proxy must have sent it.
    Regular,
}

/// The error for a response that is not from a k8s-cli server; `None` if it is from one. The body of such a response is
/// not shown: it is often a web page, and its status codes have other meanings.
pub(crate) fn foreign_response_error(response: &Response, url: &ApiUrl, kind: RequestKind) -> Option<Error> {
    if response.headers().contains_key(SERVER_HEADER) {
        return None;
    }
    let status = response.status();
    let header_text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let proxy = format!("a proxy between you and `{url}`");
    let proxy_message = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Some(format!("{proxy} cannot reach the server: {status}"))
        }
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(format!(
            "{proxy} rejected the credentials: {status}; \
             pass them in the URL: `https://name:password@host`"
        )),
        StatusCode::FORBIDDEN => Some(format!("{proxy} denied access: {status}")),
        StatusCode::TOO_MANY_REQUESTS => Some(format!("{proxy} limits the request rate: {status}")),
        StatusCode::PAYLOAD_TOO_LARGE => Some(format!(
            "{proxy} rejected the request as too large: {status}; let it accept bodies of 16 MiB"
        )),
        _ if kind == RequestKind::Regular => Some(format!("{proxy} returned {status}")),
        _ => None,
    };
    if let Some(message) = proxy_message {
        let status = status.as_u16();
        return Some(Error::Proxy { message, status });
    }
    let location = header_text(header::LOCATION).filter(|_| status.is_redirection());
    let is_page = header_text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
    let details = match location {
        Some(location) => format!(" to `{}`", escape_controls(location)),
        None if is_page => " with a web page".to_owned(),
        None => String::new(),
    };
    Some(Error::WrongServer {
        message: format!("`{url}` is not a k8s-cli server: it returned {status}{details}"),
        status: Some(status.as_u16()),
    })
}

/// The error for an error response of the server.
pub(crate) fn server_error(status: StatusCode, request_id: Option<String>, body: &[u8], url: &ApiUrl) -> Error {
    let body = String::from_utf8_lossy(body);
    let detail = match serde_json::from_str(&escape_json_strings(&body)) {
        Ok(ErrorBody { detail }) => detail,
        Err(_) => Value::String(escape_controls(
            &body.chars().take(MAX_BODY_CHARACTERS).collect::<String>(),
        )),
    };
    if status == StatusCode::UNPROCESSABLE_ENTITY
        && let Ok(errors) = serde_json::from_value::<Vec<FieldError>>(detail.clone())
    {
        return Error::Invalid { errors, request_id };
    }
    let text = match detail {
        Value::String(text) if !text.is_empty() => text,
        Value::String(_) => format!("`{url}` returned {status}"),
        other => other.to_string(),
    };
    let message = ErrorMessage {
        text,
        status: Some(status.as_u16()),
        request_id,
    };
    match status {
        StatusCode::NOT_FOUND => Error::NotFound(message),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::PermissionDenied(message),
        _ => Error::Server(message),
    }
}

/// The error of a request that got no response.
pub(crate) fn unreachable_error(url: &ApiUrl, source: reqwest::Error) -> Error {
    let url = url.to_string();
    match find_untrusted_peer(&source) {
        Some(UntrustedPeer(reason)) => Error::Untrusted {
            url,
            reason: reason.clone(),
        },
        None => Error::Unreachable {
            url,
            source: source.without_url(),
        },
    }
}
