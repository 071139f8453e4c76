//! The first question to an address: whether it is a server of ours that answers there, and the person's own.

use std::path::PathBuf;
use std::time::Duration;

use peer::token::{self, CHALLENGE_HEADER, PROOF_HEADER, Token};
use reqwest::Response;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::{ApiUrl, refusal, retry, unreachable};
use crate::error::{Error, Result};

/// How long a server may take to say that it is one.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What servers of ours say of themselves, older ones, too.
const SERVICE: &str = "k8s-cli-api";

/// What proves that a server on this machine is the person's own, and to it who asks.
#[derive(Debug, Clone)]
pub enum Proof {
    /// Nothing needs to: the connection was looked at, or is to another machine.
    None,
    /// A secret that a server of the person's own has written into this folder.
    Token {
        /// Where.
        folder: PathBuf,
        /// Whether a server that does not prove it is believed all the same.
        is_optional: bool,
    },
}

/// An address that has answered as a server of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeted {
    /// The secret that is sent with each request.
    pub token: Option<HeaderValue>,
}

/// The answer of every server to this question.
#[derive(Deserialize)]
struct Health {
    service: String,
}

/// Asks, again where a proxy or a broken connection is in the way.
///
/// # Errors
/// Nobody answers, or somebody else.
pub async fn greet(http: &reqwest::Client, url: &ApiUrl, proof: &Proof) -> Result<Greeted> {
    let challenge = token::challenge();
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
                    what: format!("`{url}` did not answer within {TIMEOUT:?}"),
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
        Ok(_) => "does not prove that it is yours".to_owned(),
        Err(error) => format!(
            "may be another account's program: `{}` cannot be read ({error})",
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

/// Whether an answer without our header is one of a server of before that header.
async fn says_it_is_ours(response: Response) -> bool {
    match response.json::<Health>().await {
        Ok(health) => health.service == SERVICE,
        Err(_) => false,
    }
}
