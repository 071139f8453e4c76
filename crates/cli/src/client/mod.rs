//! HTTP client of the server.

mod answers;
mod away;
mod connection;
mod greeting;
mod refusal;
mod retry;
#[cfg(test)]
mod tests;
mod url;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use peer::token::TOKEN_HEADER;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use answers::{Created, DryRun, Nodes, Removed, Stopped, Submitted};
pub use away::{Away, is_passing};
pub use url::ApiUrl;

use self::connection::{Checked, NotTrusted};
use self::greeting::{Greeted, Proof};
use crate::error::{Error, Result};
use crate::folders;
use crate::output::{plain, with_plain_strings};
use crate::user::User;

/// Timeout for connecting; generous enough for a server on another continent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a request. Submitting a task with 1,000 nodes can take the server 70 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Interval of TCP keepalive probes: a log stream may be silent for hours, and a dead peer must be noticed.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Access to a server as one user.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: ApiUrl,
    proof: Proof,
    /// Set once a k8s-cli server has responded at the URL; cleared when it rejects the secret.
    greeted: Arc<Mutex<Option<Greeted>>>,
    user: header::HeaderValue,
}

/// Whether a request may be sent again if its response was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Yes,
    No,
}

impl Client {
    /// A client for the server at `url`. Sends nothing yet. Unless `trusts_others` is set, a server on this machine
    /// must run as the user or as root.
    pub fn new(url: &ApiUrl, user: &User, trusts_others: bool) -> Result<Self> {
        // With TLS, the certificate identifies the server.
        if !url.is_plain() {
            return Self::with(url, user, Proof::None, false);
        }
        if peer::REPORTS_OWNERS {
            return Self::with(url, user, Proof::None, !trusts_others);
        }
        let proof = match url.is_this_machine() {
            true => Proof::Token {
                folder: folders::tokens()?,
                is_optional: trusts_others,
            },
            false => Proof::None,
        };
        Self::with(url, user, proof, false)
    }

    fn with(url: &ApiUrl, user: &User, proof: Proof, looks_at_connections: bool) -> Result<Self> {
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            // The server does not redirect these paths. A redirect is from a proxy, e.g., to a login page, and
            // following it could send the task to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("k8s-cli/", env!("CARGO_PKG_VERSION")));
        if url.is_plain() {
            // Loading the system's certificates takes longer than most commands.
            http = http.tls_certs_only([]);
        }
        if url.is_this_machine() {
            // For a proxy, a loopback address is its own machine.
            http = http.no_proxy();
        }
        if looks_at_connections {
            http = http.connector_layer(Checked);
        }
        let user = header::HeaderValue::from_bytes(user.name.as_str().as_bytes()).map_err(|_| {
            Error::Usage(format!(
                "invalid user name `{}`; it cannot be sent in an HTTP header",
                user.name
            ))
        })?;
        Ok(Self {
            http: http.build().map_err(|source| unreachable(url, source))?,
            url: url.clone(),
            proof,
            greeted: Arc::default(),
            user,
        })
    }

    pub fn url(&self) -> &ApiUrl {
        &self.url
    }

    /// GET, with the response decoded.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.get_bytes(path).await?;
        self.decode(&answer)
    }

    /// GET, with the response body as sent.
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes> {
        let response = self.send(Repeat::Yes, || self.request(Method::GET, path)).await?;
        self.body(response).await
    }

    /// GET, with the response body as a stream. The timeout covers the response headers only: a log is followed for as
    /// long as the task runs.
    pub async fn stream(&self, path: &str) -> Result<Response> {
        let head = self.attempt(|| self.http.request(Method::GET, self.url.join(path)));
        let response = tokio::time::timeout(ANSWER_TIMEOUT, head).await;
        let response = response
            .map_err(|_| Error::TimedOut(format!("`{}` did not respond within {ANSWER_TIMEOUT:?}", self.url)))??;
        self.checked(response.map_err(|error| unreachable(&self.url, error))?)
            .await
    }

    /// POST without a body. Not repeated after a lost response.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(Repeat::No, || self.request(Method::POST, path)).await?;
        self.decode(&self.body(response).await?)
    }

    /// POST with a JSON body. Not repeated after a lost response, because the object may have been created.
    pub async fn create<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = || self.request(Method::POST, path).json(body);
        let response = self.send(Repeat::No, request).await?;
        self.decode(&self.body(response).await?)
    }

    /// Submits a task; returns the response and the server's warnings. Repeating the request is safe, because the
    /// server creates at most one task for an idempotency key.
    pub async fn submit(&self, path: &str, body: &Value, key: &str) -> Result<(Bytes, Vec<String>)> {
        let request = || {
            let request = self.request(Method::POST, path);
            request.header("Idempotency-Key", key).json(body)
        };
        let response = self.send(Repeat::Yes, request).await?;
        let warnings = response.headers().get_all(header::WARNING).iter();
        let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let warnings = warnings.filter_map(|value| warning(&text(value))).collect();
        Ok((self.body(response).await?, warnings))
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(Repeat::No, || self.request(Method::DELETE, path)).await?;
        self.decode(&self.body(response).await?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url.join(path)).timeout(ANSWER_TIMEOUT)
    }

    /// Sends a request. Retries if the server asks for it or, for requests that may be repeated, if the connection
    /// breaks.
    async fn send(&self, repeat: Repeat, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut tries = retry::Tries::default();
        loop {
            match self.attempt(&request).await? {
                Ok(response) => match tries.after(&response) {
                    Some(pause) => pause.await,
                    None => return self.checked(response).await,
                },
                Err(error) => match tries.after_break(&error).filter(|_| repeat == Repeat::Yes) {
                    Some(pause) => pause.await,
                    None => return Err(unreachable(&self.url, error)),
                },
            }
        }
    }

    /// Sends a request once, after the greeting. A server that was restarted has a new secret and answers 403 to the
    /// old one; then the greeting and the request are repeated.
    async fn attempt(&self, request: impl Fn() -> RequestBuilder) -> Result<Result<Response, reqwest::Error>> {
        let greeted = self.greet().await?;
        let sent = self.send_as(&greeted, &request).await;
        let is_refused = |response: &Response| response.status() == StatusCode::FORBIDDEN;
        if matches!(self.proof, Proof::None) || !sent.as_ref().is_ok_and(is_refused) {
            return Ok(sent);
        }
        *self.greeted() = None;
        let anew = self.greet().await?;
        Ok(match anew == greeted {
            true => sent,
            false => self.send_as(&anew, &request).await,
        })
    }

    async fn send_as(
        &self,
        greeted: &Greeted,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, reqwest::Error> {
        let request = request().header("X-User", self.user.clone());
        let request = match &greeted.token {
            Some(token) => request.header(TOKEN_HEADER, token),
            None => request,
        };
        request.send().await
    }

    /// Greets the server before the first request, so that tasks and secrets are never sent to another program.
    async fn greet(&self) -> Result<Greeted> {
        if let Some(greeted) = &*self.greeted() {
            return Ok(greeted.clone());
        }
        let greeted = greeting::greet(&self.http, &self.url, &self.proof).await?;
        *self.greeted() = Some(greeted.clone());
        Ok(greeted)
    }

    fn greeted(&self) -> std::sync::MutexGuard<'_, Option<Greeted>> {
        self.greeted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn checked(&self, response: Response) -> Result<Response> {
        if let Some(stranger) = refusal::stranger(&response, &self.url, refusal::Asked::Anything) {
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
        response.bytes().await.map_err(|error| unreachable(&self.url, error))
    }

    /// Decodes a response and escapes control characters in its strings, so that they are safe to print.
    pub fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        self.decode_as_sent(with_plain_strings(&String::from_utf8_lossy(body)).as_bytes())
    }

    /// Decodes a response without escaping. The result may only be printed with `output::json` or `output::yaml`, which
    /// escape.
    pub fn decode_as_sent<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|source| Error::Answer {
            url: self.url.to_string(),
            source,
        })
    }
}

/// The error of a request that got no response.
fn unreachable(url: &ApiUrl, source: reqwest::Error) -> Error {
    let url = url.to_string();
    match connection::not_trusted(&source) {
        Some(NotTrusted(who)) => Error::Untrusted { url, who: who.clone() },
        None => Error::Unreachable {
            url,
            source: source.without_url(),
        },
    }
}

/// The text of a `Warning` header: `299 - "text"`. RFC 9111 obsoletes the header, but Kubernetes uses it for warnings.
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
