//! What an answer that is none of what was asked for means: our server's refusal, or somebody else's words.

use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use task::status::SERVER_HEADER;

use super::ApiUrl;
use crate::error::{Error, Fault, Said};
use crate::output::{plain, with_plain_strings};

/// The most of an answer that is no JSON that is shown.
const MAX_SHOWN_CHARACTERS: usize = 300;

/// The body of an error.
#[derive(Deserialize)]
struct Detail {
    detail: Value,
}

/// Why an answer is no server's of ours; `None` when it is. Whatever else listens at the address, or stands on the way to it, has
/// words of its own, which mean nothing here.
pub fn stranger(response: &Response, url: &ApiUrl) -> Option<Error> {
    if response.headers().contains_key(SERVER_HEADER) {
        return None;
    }
    let status = response.status();
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let what = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            format!("a proxy on the way to `{url}` does not reach the server: it answers {status}")
        }
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => format!(
            "a proxy on the way to `{url}` does not take the name or password: it answers {status}; \
             they are in the address: https://name:password@host"
        ),
        StatusCode::FORBIDDEN => format!("a proxy on the way to `{url}` refuses you: it answers {status}"),
        _ if status.is_redirection() => {
            let to = plain(text(header::LOCATION).unwrap_or("another address"));
            format!("`{url}` is no k8s-cli server: it answers {status}, to `{to}`")
        }
        _ => {
            let kind = text(header::CONTENT_TYPE).unwrap_or_default();
            let kind = if kind.starts_with("text/html") {
                " with a web page"
            } else {
                ""
            };
            format!("`{url}` is no k8s-cli server: it answers {status}{kind}")
        }
    };
    let status = Some(status.as_u16());
    Some(Error::Stranger { what, status })
}

/// Our server's error, in our words.
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
        Value::String(_) => format!("`{url}` answers {status}"),
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
