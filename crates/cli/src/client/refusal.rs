//! What an answer means that is not what was asked for: our server's refusal, or somebody else's words.

use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use task::status::SERVER_HEADER;

use super::ApiUrl;
use crate::error::{Error, Fault, Said};
use crate::output::{plain, with_plain_strings};

/// The most that is shown of an answer that is not JSON.
const MAX_SHOWN_CHARACTERS: usize = 300;

/// The body of an error.
#[derive(Deserialize)]
struct Detail {
    detail: Value,
}

/// What was asked of who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Whether it is a server of ours.
    WhoItIs,
    /// Something else: it has said before that it is.
    Anything,
}

/// Why an answer is not one of a server of ours; `None` when it is. Whatever else listens at the address, or stands on the way to
/// it, has words of its own, which mean nothing here.
pub fn stranger(response: &Response, url: &ApiUrl, asked: Asked) -> Option<Error> {
    if response.headers().contains_key(SERVER_HEADER) {
        return None;
    }
    let status = response.status();
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let proxy = format!("a proxy on the way to `{url}`");
    let told = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Some(format!("{proxy} does not reach the server: it answers {status}"))
        }
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(format!(
            "{proxy} does not accept the name or password: it answers {status}; \
             put them into the address: https://name:password@host"
        )),
        StatusCode::FORBIDDEN => Some(format!("{proxy} refuses you: it answers {status}")),
        StatusCode::TOO_MANY_REQUESTS => Some(format!("{proxy} is too busy: it answers {status}")),
        StatusCode::PAYLOAD_TOO_LARGE => Some(format!("{proxy} does not pass on so much: it answers {status}")),
        _ if asked == Asked::Anything => Some(format!("{proxy} answers {status}")),
        _ => None,
    };
    let is_proxy = told.is_some();
    let what = told.unwrap_or_else(|| {
        let to = text(header::LOCATION).filter(|_| status.is_redirection());
        let is_page = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html"));
        let how = match to {
            Some(to) => format!(", to `{}`", plain(to)),
            None if is_page => " with a web page".to_owned(),
            None => String::new(),
        };
        format!("`{url}` is not a k8s-cli server: it answers {status}{how}")
    });
    Some(Error::Stranger {
        what,
        status: Some(status.as_u16()),
        is_proxy,
    })
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
