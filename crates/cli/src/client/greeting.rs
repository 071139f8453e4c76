//! The first request to a URL: checks that a k8s-cli server answers there and, if needed, that it is the user's own.

use std::path::PathBuf;
use std::time::Duration;

use peer::token::{self, CHALLENGE_HEADER, PROOF_HEADER, Token};
use reqwest::Response;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::{ApiUrl, refusal, retry, unreachable};
use crate::error::{Error, Result};

/// Timeout of the first request. A health check is fast; a program that speaks another protocol may never respond.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Service name in the health check, which versions without [`task::status::SERVER_HEADER`] have, too.
const SERVICE: &str = "k8s-cli-api";

/// How the client and a server on this machine prove to each other that they belong to the same user.
#[derive(Debug, Clone)]
pub enum Proof {
    /// No proof needed: [`super::connection`] checks the connection, or the server is on another machine.
    None,
    /// A secret that the user's own server has written to this directory.
    Token {
        folder: PathBuf,
        /// Whether to accept a server that does not prove that it knows the secret.
        is_optional: bool,
    },
}

/// Result of a successful greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeted {
    /// The secret to send with each request.
    pub token: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Health {
    service: String,
}

/// Sends the health check. Retries if a proxy is busy or the connection breaks.
pub async fn greet(http: &reqwest::Client, url: &ApiUrl, proof: &Proof) -> Result<Greeted> {
    let challenge = token::new_challenge();
    let mut tries = retry::Tries::default();
    loop {
        let request = http.get(url.join("/healthz")).timeout(TIMEOUT);
        let request = match proof {
            Proof::None => request,
            Proof::Token { .. } => request.header(CHALLENGE_HEADER, &challenge),
        };
        match request.send().await {
            Ok(response) => match tries.after(&response) {
                Some(pause) => pause.await,
                None => return answered(response, url, proof, &challenge).await,
            },
            Err(error) if error.is_timeout() && !error.is_connect() => {
                return Err(Error::Stranger {
                    what: format!("`{url}` did not respond within {TIMEOUT:?}"),
                    status: None,
                    is_proxy: false,
                });
            }
            Err(error) => match tries.after_break(&error) {
                Some(pause) => pause.await,
                None => return Err(unreachable(url, error)),
            },
        }
    }
}

async fn answered(response: Response, url: &ApiUrl, proof: &Proof, challenge: &str) -> Result<Greeted> {
    if let Some(stranger) = refusal::stranger(&response, url, refusal::Asked::WhoItIs) {
        let is_older = response.status().is_success() && says_it_is_ours(response).await;
        return Err(if is_older {
            Error::Outdated { url: url.to_string() }
        } else {
            stranger
        });
    }
    let Proof::Token { folder, is_optional } = proof else {
        return Ok(Greeted { token: None });
    };
    let proven = response.headers().get(PROOF_HEADER).map(HeaderValue::as_bytes);
    let path = Token::path(folder, url.port().unwrap_or_default());
    let who = match Token::read(&path) {
        Ok(token) if proven == Some(token.proof(challenge.as_bytes()).as_bytes()) => {
            let token = HeaderValue::from_str(token.as_str()).ok();
            return Ok(Greeted { token });
        }
        Ok(_) => "could not prove that it is your server".to_owned(),
        Err(error) => format!(
            "may belong to another account: cannot read `{}` ({error})",
            path.display()
        ),
    };
    if *is_optional {
        return Ok(Greeted { token: None });
    }
    Err(Error::Untrusted {
        url: url.to_string(),
        who,
    })
}

/// Whether a response without [`task::status::SERVER_HEADER`] comes from a k8s-cli server older than that header.
async fn says_it_is_ours(response: Response) -> bool {
    match response.json::<Health>().await {
        Ok(health) => health.service == SERVICE,
        Err(_) => false,
    }
}
