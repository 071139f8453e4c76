//! The first request to a URL: checks that a k8s-cli server answers there and, if needed, that it is the user's own.

use std::path::PathBuf;
use std::time::Duration;

use peer::token::{self, CHALLENGE_HEADER, PROOF_HEADER, Token};
use reqwest::Response;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::error_response::{RequestKind, foreign_response_error, unreachable_error};
use super::retry::Retries;
use super::url::ApiUrl;
use crate::error::{Error, Result};

/// Timeout of the first request. A health check is fast; a program that speaks another protocol may never respond.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Service name in the health check, which versions without [`task::wire::SERVER_HEADER`] have, too.
const SERVICE: &str = "k8s-cli-api";

/// How the client and a server on this machine make sure that they belong to the same user.
#[derive(Debug, Clone)]
pub(crate) enum ServerAuth {
    /// Not needed: the server has a certificate or is on another machine, or the user trusts other accounts.
    None,
    /// [`peer::PeerCheckLayer`] checks which account owns the other end of each loopback connection.
    PeerAccount,
    /// A secret that the user's own server has written to this directory.
    Token {
        dir: PathBuf,
        /// Whether to accept a server that does not prove that it knows the secret.
        is_optional: bool,
    },
}

/// Result of a successful handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// The secret to send with each request.
    pub token: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct HealthResponse {
    service: String,
}

/// Sends the health check. Retries if a proxy is busy or the connection breaks.
pub(crate) async fn perform_handshake(http: &reqwest::Client, url: &ApiUrl, auth: &ServerAuth) -> Result<Session> {
    let challenge = token::new_challenge();
    let mut retries = Retries::default();
    loop {
        let request = http.get(url.join("/healthz")).timeout(TIMEOUT);
        let request = match auth {
            ServerAuth::None | ServerAuth::PeerAccount => request,
            ServerAuth::Token { .. } => request.header(CHALLENGE_HEADER, &challenge),
        };
        match request.send().await {
            Ok(response) => match retries.after_response(&response) {
                Some(pause) => pause.await,
                None => return verify_response(response, url, auth, &challenge).await,
            },
            Err(error) if error.is_timeout() && !error.is_connect() => {
                return Err(Error::WrongServer {
                    message: format!("`{url}` did not respond within {TIMEOUT:?}"),
                    status: None,
                });
            }
            Err(error) => match retries.after_error(&error) {
                Some(pause) => pause.await,
                None => return Err(unreachable_error(url, error)),
            },
        }
    }
}

async fn verify_response(response: Response, url: &ApiUrl, auth: &ServerAuth, challenge: &str) -> Result<Session> {
    if let Some(error) = foreign_response_error(&response, url, RequestKind::Handshake) {
        let is_outdated = response.status().is_success() && is_older_server(response).await;
        return Err(if is_outdated {
            Error::OutdatedServer { url: url.to_string() }
        } else {
            error
        });
    }
    let ServerAuth::Token { dir, is_optional } = auth else {
        return Ok(Session { token: None });
    };
    let proof = response.headers().get(PROOF_HEADER).map(HeaderValue::as_bytes);
    let path = Token::path(dir, url.port().unwrap_or_default());
    let reason = match Token::read(&path) {
        Ok(token) if proof == Some(token.proof(challenge.as_bytes()).as_bytes()) => {
            let token = HeaderValue::from_str(token.as_str()).ok();
            return Ok(Session { token });
        }
        Ok(_) => "could not prove that it is your server".to_owned(),
        Err(error) => format!(
            "may belong to another account: cannot read `{}` ({error})",
            path.display()
        ),
    };
    if *is_optional {
        return Ok(Session { token: None });
    }
    Err(Error::Untrusted {
        url: url.to_string(),
        reason,
    })
}

/// Whether a response without [`task::wire::SERVER_HEADER`] comes from a k8s-cli server older than that header.
async fn is_older_server(response: Response) -> bool {
    match response.json::<HealthResponse>().await {
        Ok(health) => health.service == SERVICE,
        Err(_) => false,
    }
}
