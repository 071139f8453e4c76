//! HTTP client of the server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use peer::PeerCheckLayer;
use peer::token::TOKEN_HEADER;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error_response::{self, RequestKind, unreachable_error};
use super::handshake::{self, ServerAuth, Session};
use super::retry::Retries;
use super::upload_body::Sending;
use super::url::ApiUrl;
use crate::dirs;
use crate::error::{Error, Result};
use crate::output::{escape_controls, escape_json_strings};
use crate::user::User;

/// Timeout for connecting; generous enough for a server on another continent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a request. Submitting a task with 1,000 nodes can take the server 70 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long an upload may wait until more of it is sent, or for the response when all is sent. What is sent may be in a
/// buffer of the system, and take minutes over a slow line.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(180);

/// Interval of TCP keepalive probes: a log stream may be silent for hours, and a dead peer must be noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Access to a server as one user.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: ApiUrl,
    auth: ServerAuth,
    /// Set once a k8s-cli server has responded at the URL; cleared when it rejects the secret.
    session: Arc<Mutex<Option<Session>>>,
    user: header::HeaderValue,
}

/// Whether a request may be sent again if its response was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idempotent {
    Yes,
    No,
}

impl Client {
    /// A client for the server at `url`. Sends nothing yet. Unless `trusts_other_accounts` is set, a server on this
    /// machine must run as the user or as root.
    pub(crate) fn new(url: &ApiUrl, user: &User, trusts_other_accounts: bool) -> Result<Self> {
        let auth = if !url.is_plain() || (peer::REPORTS_OWNERS && trusts_other_accounts) {
            ServerAuth::None
        } else if peer::REPORTS_OWNERS {
            ServerAuth::PeerAccount
        } else if url.is_this_machine() {
            ServerAuth::Token {
                dir: dirs::tokens()?,
                is_optional: trusts_other_accounts,
            }
        } else {
            ServerAuth::None
        };
        Self::build(url, user, auth)
    }

    fn build(url: &ApiUrl, user: &User, auth: ServerAuth) -> Result<Self> {
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE_INTERVAL)
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
        if matches!(auth, ServerAuth::PeerAccount) {
            http = http.connector_layer(PeerCheckLayer);
        }
        let user = header::HeaderValue::from_bytes(user.name.as_str().as_bytes()).map_err(|_| {
            Error::Usage(format!(
                "invalid user name `{}`; it cannot be sent in an HTTP header",
                user.name
            ))
        })?;
        Ok(Self {
            http: http.build().map_err(|source| unreachable_error(url, source))?,
            url: url.clone(),
            auth,
            session: Arc::default(),
            user,
        })
    }

    pub(crate) fn url(&self) -> &ApiUrl {
        &self.url
    }

    /// GET, with the response decoded.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.get_bytes(path).await?;
        self.decode(&body)
    }

    /// GET, with the response body as sent.
    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Bytes> {
        let response = self.send(Idempotent::Yes, || self.request(Method::GET, path)).await?;
        self.read_body(response).await
    }

    /// GET, with the response body as a stream. The timeout covers the response headers only: a log is followed for as
    /// long as the task runs.
    pub(crate) async fn stream(&self, path: &str) -> Result<Response> {
        self.open(|| self.http.request(Method::GET, self.url.join(path))).await
    }

    /// POST of a JSON body that only says what to read, with the response body as a stream in the same way.
    pub(crate) async fn stream_post(&self, path: &str, body: &impl Serialize) -> Result<Response> {
        self.open(|| self.http.request(Method::POST, self.url.join(path)).json(body))
            .await
    }

    /// GET of server-sent events, from the one after `last_id` on.
    pub(crate) async fn events(&self, path: &str, last_id: Option<&str>) -> Result<Response> {
        let request = || {
            let request = self.http.request(Method::GET, self.url.join(path));
            match last_id {
                Some(id) => request.header("Last-Event-ID", id),
                None => request,
            }
        };
        self.open(request).await
    }

    async fn open(&self, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let head = self.try_send(request);
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, head).await;
        let response = response
            .map_err(|_| Error::TimedOut(format!("`{}` did not respond within {RESPONSE_TIMEOUT:?}", self.url)))??;
        self.check_response(response.map_err(|error| unreachable_error(&self.url, error))?)
            .await
    }

    /// POST without a body. Not repeated after a lost response.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(Idempotent::No, || self.request(Method::POST, path)).await?;
        self.decode(&self.read_body(response).await?)
    }

    /// POST with a JSON body. Not repeated after a lost response, because the object may have been created.
    pub(crate) async fn create<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let request = || self.request(Method::POST, path).json(body);
        let response = self.send(Idempotent::No, request).await?;
        self.decode(&self.read_body(response).await?)
    }

    /// Submits a task; returns the response and the server's warnings. Repeating the request is safe, because the
    /// server creates at most one task for an idempotency key.
    pub(crate) async fn submit(&self, path: &str, body: &Value, key: &str) -> Result<(Bytes, Vec<String>)> {
        let request = || {
            let request = self.request(Method::POST, path);
            request.header("Idempotency-Key", key).json(body)
        };
        let response = self.send(Idempotent::Yes, request).await?;
        let warnings = response.headers().get_all(header::WARNING).iter();
        let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let warnings = warnings.filter_map(|value| warning_text(&text(value))).collect();
        Ok((self.read_body(response).await?, warnings))
    }

    /// Whether a GET finds anything.
    pub(crate) async fn exists(&self, path: &str) -> Result<bool> {
        match self.get_bytes(path).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// PUT of bytes.
    pub(crate) async fn put_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        kind: &'static str,
        body: Bytes,
    ) -> Result<T> {
        let sending = Sending::new(body, Box::new(|_| {}));
        self.decode(&self.upload(Method::PUT, path, kind, &sending).await?)
    }

    /// POST of bytes that may be stored twice, because they are named by their hash. `on_sent` hears of bytes that were
    /// sent, and, with a negative number, of those that must be sent again.
    pub(crate) async fn post_bytes(
        &self,
        path: &str,
        kind: &'static str,
        body: Bytes,
        on_sent: impl Fn(i64) + Send + Sync + 'static,
    ) -> Result<()> {
        let sending = Sending::new(body, Box::new(on_sent));
        self.upload(Method::POST, path, kind, &sending).await.map(drop)
    }

    async fn upload(&self, method: Method, path: &str, kind: &'static str, sending: &Arc<Sending>) -> Result<Bytes> {
        let request = || {
            let request = self.http.request(method.clone(), self.url.join(path));
            request.header(header::CONTENT_TYPE, kind).body(sending.body())
        };
        let response = async { self.read_body(self.send(Idempotent::Yes, request).await?).await };
        let response = sending.unless_stuck(UPLOAD_TIMEOUT, response).await;
        response.unwrap_or_else(|| {
            let url = &self.url;
            Err(Error::TimedOut(format!(
                "`{url}` took nothing more of an upload for {UPLOAD_TIMEOUT:?}"
            )))
        })
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(Idempotent::No, || self.request(Method::DELETE, path)).await?;
        self.decode(&self.read_body(response).await?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url.join(path)).timeout(RESPONSE_TIMEOUT)
    }

    /// Sends a request. Retries if the server asks for it or, for requests that may be repeated, if the connection
    /// breaks.
    async fn send(&self, idempotent: Idempotent, request: impl Fn() -> RequestBuilder) -> Result<Response> {
        let mut retries = Retries::default();
        loop {
            match self.try_send(&request).await? {
                Ok(response) => match retries.after_response(&response) {
                    Some(pause) => pause.await,
                    None => return self.check_response(response).await,
                },
                Err(error) => match retries.after_error(&error).filter(|_| idempotent == Idempotent::Yes) {
                    Some(pause) => pause.await,
                    None => return Err(unreachable_error(&self.url, error)),
                },
            }
        }
    }

    /// Sends a request once, after the handshake. A server that was restarted has a new secret and answers 403 to the
    /// old one; then the handshake and the request are repeated.
    async fn try_send(&self, request: impl Fn() -> RequestBuilder) -> Result<Result<Response, reqwest::Error>> {
        let session = self.handshake().await?;
        let sent = self.send_in(&session, &request).await;
        let is_forbidden = |response: &Response| response.status() == StatusCode::FORBIDDEN;
        if !matches!(self.auth, ServerAuth::Token { .. }) || !sent.as_ref().is_ok_and(is_forbidden) {
            return Ok(sent);
        }
        *self.session() = None;
        let new_session = self.handshake().await?;
        Ok(match new_session == session {
            true => sent,
            false => self.send_in(&new_session, &request).await,
        })
    }

    async fn send_in(
        &self,
        session: &Session,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Response, reqwest::Error> {
        let request = request().header("X-User", self.user.clone());
        let request = match &session.token {
            Some(token) => request.header(TOKEN_HEADER, token),
            None => request,
        };
        request.send().await
    }

    /// Checks the server before the first request, so that tasks and secrets are never sent to another program.
    async fn handshake(&self) -> Result<Session> {
        if let Some(session) = &*self.session() {
            return Ok(session.clone());
        }
        let session = handshake::perform_handshake(&self.http, &self.url, &self.auth).await?;
        *self.session() = Some(session.clone());
        Ok(session)
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check_response(&self, response: Response) -> Result<Response> {
        if let Some(error) = error_response::foreign_response_error(&response, &self.url, RequestKind::Regular) {
            return Err(error);
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
        let request_id = request_id.map(str::to_owned);
        let body = self.read_body(response).await?;
        Err(error_response::server_error(status, request_id, &body, &self.url))
    }

    async fn read_body(&self, response: Response) -> Result<Bytes> {
        response
            .bytes()
            .await
            .map_err(|error| unreachable_error(&self.url, error))
    }

    /// Decodes a response and escapes control characters in its strings, so that they are safe to print.
    pub(crate) fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        self.decode_unescaped(escape_json_strings(&String::from_utf8_lossy(body)).as_bytes())
    }

    /// Decodes a response without escaping. The result may only be printed with `output::json` or `output::yaml`, which
    /// escape.
    pub(crate) fn decode_unescaped<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|source| Error::InvalidResponse {
            url: self.url.to_string(),
            source,
        })
    }
}

/// The text of a `Warning` header: `299 - "text"`. RFC 9111 obsoletes the header, but Kubernetes uses it for warnings.
fn warning_text(value: &str) -> Option<String> {
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
    Some(escape_controls(&text))
}

#[cfg(test)]
mod tests;
