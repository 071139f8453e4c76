//! Turns error responses into errors: those of the server, and those of proxies and other programs.

use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use task::wire::SERVER_HEADER;

use super::ApiUrl;
use crate::error::{Error, Fault, Said};
use crate::output::{plain, with_plain_strings};

/// Limit for showing a response body that is not JSON.
const MAX_SHOWN_CHARACTERS: usize = 300;

#[derive(Deserialize)]
struct Detail {
    detail: Value,
}

/// What the request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The greeting: whether a k8s-cli server answers.
    WhoItIs,
    /// Any request after the greeting. If the response is not from the server now, a proxy must have sent it.
    Anything,
}

/// The error for a response that is not from a k8s-cli server; `None` if it is from one. The body of such a response is
/// not shown: it is often a web page, and its status codes have other meanings.
pub fn stranger(response: &Response, url: &ApiUrl, asked: Asked) -> Option<Error> {
    if response.headers().contains_key(SERVER_HEADER) {
        return None;
    }
    let status = response.status();
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let proxy = format!("a proxy between you and `{url}`");
    let told = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Some(format!("{proxy} cannot reach the server: {status}"))
        }
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(format!(
            "{proxy} rejected the credentials: {status}; \
             pass them in the URL: `https://name:password@host`"
        )),
        StatusCode::FORBIDDEN => Some(format!("{proxy} denied access: {status}")),
        StatusCode::TOO_MANY_REQUESTS => Some(format!("{proxy} limits the request rate: {status}")),
        StatusCode::PAYLOAD_TOO_LARGE => Some(format!("{proxy} rejected the request as too large: {status}")),
        _ if asked == Asked::Anything => Some(format!("{proxy} returned {status}")),
        _ => None,
    };
    let is_proxy = told.is_some();
    let what = told.unwrap_or_else(|| {
        let to = text(header::LOCATION).filter(|_| status.is_redirection());
        let is_page = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
        let how = match to {
            Some(to) => format!(" to `{}`", plain(to)),
            None if is_page => " with a web page".to_owned(),
            None => String::new(),
        };
        format!("`{url}` is not a k8s-cli server: it returned {status}{how}")
    });
    Some(Error::Stranger {
        what,
        status: Some(status.as_u16()),
        is_proxy,
    })
}

/// The error for an error response of the server.
pub fn refusal(status: StatusCode, request_id: Option<String>, body: &[u8], url: &ApiUrl) -> Error {
    let body = String::from_utf8_lossy(body);
    let detail = match serde_json::from_str(&with_plain_strings(&body)) {
        Ok(Detail { detail }) => detail,
        Err(_) => Value::String(plain(&body.chars().take(MAX_SHOWN_CHARACTERS).collect::<String>())),
    };
    if status == StatusCode::UNPROCESSABLE_ENTITY
        && let Ok(faults) = serde_json::from_value::<Vec<Fault>>(detail.clone())
    {
        return Error::Invalid { faults, request_id };
    }
    let text = match detail {
        Value::String(text) if !text.is_empty() => text,
        Value::String(_) => format!("`{url}` returned {status}"),
        other => other.to_string(),
    };
    let said = Said {
        text,
        status: Some(status.as_u16()),
        request_id,
    };
    match status {
        StatusCode::NOT_FOUND => Error::NotFound(said),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Refused(said),
        _ => Error::Server(said),
    }
}
