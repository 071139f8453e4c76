//! Requests to the server, and its answers as our own values.

mod answers;
mod away;
mod greeting;
mod listener;
mod refusal;
mod url;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peer::token::TOKEN_HEADER;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

pub use answers::{Created, DryRun, Nodes, Removed, Stopped, Submitted};
pub use away::{Away, is_passing};
pub use url::ApiUrl;

use crate::error::{Error, Result};
use crate::output::{plain, with_plain_strings};
use crate::user::User;

/// How long a server may take to accept a connection: even one on another continent does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may pause. A submit of 1,000 nodes may take 70 s on the server's side.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// When the other side of a silent log stream is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How often a request is sent that may be repeated, and the first pause, which doubles.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause that a server can ask for with `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One user's access to a server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: ApiUrl,
    /// Whether another account's program is believed at an address of this machine.
    trusts_others: bool,
    /// Set when the address has answered as a server of ours; what is sent to it to prove who asks.
    greeted: Arc<OnceCell<Option<header::HeaderValue>>>,
    user: header::HeaderValue,
}

/// Whether a request whose answer was lost may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Yes,
    No,
}

impl Client {
    /// Access for `user` to the server at `url`. Nothing is sent yet.
    ///
    /// # Errors
    /// The system's certificates cannot be read.
    pub fn new(url: &ApiUrl, user: &User) -> Result<Self> {
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("k8s-cli/", env!("CARGO_PKG_VERSION")));
        if url.is_plain() {
            // Reading the system's certificates takes longer than most commands.
            http = http.tls_certs_only([]);
        }
        if url.is_this_machine() {
            // A proxy would look for the server on its own machine.
            http = http.no_proxy();
        }
        let unreachable = |source| Error::Unreachable {
            url: url.to_string(),
            source,
        };
        let user = header::HeaderValue::from_bytes(user.name.as_str().as_bytes())
            .map_err(|_| Error::Usage(format!("`{}` cannot be sent as a user name", user.name)))?;
        Ok(Self {
            http: http.build().map_err(unreachable)?,
            url: url.clone(),
            trusts_others: false,
            greeted: Arc::default(),
            user,
        })
    }

    /// The same, which believes another account's program at an address of this machine, if it `trusts_others`.
    pub fn trusting(self, trusts_others: bool) -> Self {
        Self { trusts_others, ..self }
    }

    /// Where the server is.
    pub fn url(&self) -> &ApiUrl {
        &self.url
    }

    /// GET, as one of our values.
    ///
    /// # Errors
    /// No answer, an error, or something else than was asked for.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.get_bytes(path).await?;
        self.decode(&answer)
    }

    /// GET, as it was answered.
    ///
    /// # Errors
    /// No answer, or an error.
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes> {
        let response = self
            .send(Repeat::Yes, || self.request(Method::GET, path).timeout(ANSWER_TIMEOUT))
            .await?;
        self.body(response).await
    }

    /// Opens a stream that ends when it ends.
    ///
    /// # Errors
    /// No answer, or an error.
    pub async fn stream(&self, path: &str) -> Result<Response> {
        self.greet().await?;
        let request = self.request(Method::GET, path);
        let head = tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await;
        let response = head.map_err(|_| Error::TimedOut(format!("`{}` does not answer", self.url)))?;
        self.checked(response.map_err(|error| self.unreachable(error))?).await
    }

    /// POST without a body.
    ///
    /// # Errors
    /// No answer, or an error.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self
            .send(Repeat::No, || self.request(Method::POST, path).timeout(ANSWER_TIMEOUT))
            .await?;
        self.decode(&self.body(response).await?)
    }

    /// POST of a thing that must not be made twice.
    ///
    /// # Errors
    /// No answer, or an error.
    pub async fn create<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = || self.request(Method::POST, path).timeout(ANSWER_TIMEOUT).json(body);
        let response = self.send(Repeat::No, request).await?;
        self.decode(&self.body(response).await?)
    }

    /// Submits a task; gives the answer and the server's warnings. However often the answer is lost, `key` makes one task of it.
    ///
    /// # Errors
    /// No answer, or an error.
    pub async fn submit(&self, path: &str, body: &Value, key: &str) -> Result<(Bytes, Vec<String>)> {
        let request = || {
            let request = self.request(Method::POST, path).timeout(ANSWER_TIMEOUT);
            request.header("Idempotency-Key", key).json(body)
        };
        let response = self.send(Repeat::Yes, request).await?;
        let warnings = response.headers().get_all(header::WARNING).iter();
        let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let warnings = warnings.filter_map(|value| warning(&text(value))).collect();
        Ok((self.body(response).await?, warnings))
    }

    /// DELETE.
    ///
    /// # Errors
    /// No answer, or an error.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self
            .send(Repeat::No, || {
                self.request(Method::DELETE, path).timeout(ANSWER_TIMEOUT)
            })
            .await?;
        self.decode(&self.body(response).await?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self.url.join(path);
        let request = self.http.request(method, url).header("X-User", self.user.clone());
        match self.greeted.get() {
            Some(Some(token)) => request.header(TOKEN_HEADER, token),
            _ => request,
        }
    }

    /// Sends a request, again where that helps and does no harm.
    async fn send(&self, repeat: Repeat, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut pause = FIRST_PAUSE;
        let mut tries_left = TRIES;
        loop {
            tries_left -= 1;
            self.greet().await?;
            let wait = match request().send().await {
                Ok(response) => match asked_to_wait(&response) {
                    Some(wait) if tries_left > 0 => wait.max(pause),
                    _ => return self.checked(response).await,
                },
                // Where nobody listens, nobody will in a moment.
                Err(error) if repeat == Repeat::No || error.is_connect() || tries_left == 0 => {
                    return Err(self.unreachable(error));
                }
                Err(_) => pause,
            };
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    /// Nothing is sent to a stranger: before the first request the address must answer as a server of ours does, and before
    /// each it is looked at whose program listens there.
    async fn greet(&self) -> Result<()> {
        if !self.trusts_others {
            listener::check(&self.url).await?;
        }
        let greet = || greeting::greet(&self.http, &self.url, self.trusts_others);
        self.greeted.get_or_try_init(greet).await?;
        Ok(())
    }

    async fn checked(&self, response: Response) -> Result<Response> {
        if let Some(stranger) = refusal::stranger(&response, &self.url) {
            return Err(stranger);
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
        let request_id = request_id.map(str::to_owned);
        let body = self.body(response).await?;
        Err(refusal::refusal(status, request_id, &body, &self.url))
    }

    async fn body(&self, response: Response) -> Result<Bytes> {
        response.bytes().await.map_err(|error| self.unreachable(error))
    }

    /// An answer as one of our values, whose texts are harmless on a terminal.
    ///
    /// # Errors
    /// It is something else.
    pub fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        self.decode_as_sent(with_plain_strings(&String::from_utf8_lossy(body)).as_bytes())
    }

    /// An answer as one of our values, with all that is in its texts: it must not be printed but by `output::json` or `yaml`.
    ///
    /// # Errors
    /// It is something else.
    pub fn decode_as_sent<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|source| Error::Answer {
            url: self.url.to_string(),
            source,
        })
    }

    fn unreachable(&self, source: reqwest::Error) -> Error {
        Error::Unreachable {
            url: self.url.to_string(),
            source: source.without_url(),
        }
    }
}

/// Whether, and how long, a busy server asks to wait.
fn asked_to_wait(response: &Response) -> Option<Duration> {
    let busy = matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let after = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    busy.then(|| Duration::from_secs(after).min(LONGEST_PAUSE))
}

/// The text of a `Warning` header: `299 - "text"` (RFC 9111 obsoletes it, Kubernetes uses it).
fn warning(value: &str) -> Option<String> {
    let quoted = value.split_once('"')?.1.strip_suffix('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        text.push(if character == '\\' {
            characters.next()?
        } else {
            character
        });
    }
    Some(plain(&text))
}

#[cfg(test)]
mod tests {
    use super::warning;

    #[test]
    fn a_warning_is_its_quoted_text() {
        assert_eq!(warning(r#"299 - "say \"no\" \\ yes""#).unwrap(), r#"say "no" \ yes"#);
        assert_eq!(warning("299 - nothing"), None);
    }
}
