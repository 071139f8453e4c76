//! The first question to an address: whether it is a server of ours that answers there, and the person's own.

use std::time::Duration;

use peer::token::{self, CHALLENGE_HEADER, PROOF_HEADER, Token};
use reqwest::header::HeaderValue;

use super::{ApiUrl, refusal};
use crate::error::{Error, Result};
use crate::folders;

/// How long a server may take to say that it is one: one on this machine is there at once.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_ON_THIS_MACHINE: Duration = Duration::from_secs(2);

/// Asks. Gives the secret that is sent with each request, where the system does not say whose a socket is.
///
/// # Errors
/// Nobody answers, or somebody else.
pub async fn greet(http: &reqwest::Client, url: &ApiUrl, trusts_others: bool) -> Result<Option<HeaderValue>> {
    let must_prove = !peer::IS_TOLD && !trusts_others && url.is_plain() && url.is_this_machine();
    let token = if must_prove { Some(read_token(url)?) } else { None };
    let limit = if url.is_this_machine() {
        TIMEOUT_ON_THIS_MACHINE
    } else {
        TIMEOUT
    };
    let challenge = token::challenge();
    let request = http.get(url.join("/healthz")).timeout(limit);
    let request = if token.is_some() {
        request.header(CHALLENGE_HEADER, &challenge)
    } else {
        request
    };
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() && !error.is_connect() => {
            return Err(Error::Stranger {
                what: format!("`{url}` takes connections, and has not answered for {limit:?}"),
                status: None,
            });
        }
        Err(error) => {
            return Err(Error::Unreachable {
                url: url.to_string(),
                source: error.without_url(),
            });
        }
    };
    if let Some(stranger) = refusal::stranger(&response, url) {
        return Err(stranger);
    }
    let Some(token) = token else {
        return Ok(None);
    };
    let proof = response.headers().get(PROOF_HEADER).map(HeaderValue::as_bytes);
    if proof != Some(token.proof(challenge.as_bytes()).as_bytes()) {
        return Err(untrusted(url, "does not prove that it is yours"));
    }
    Ok(HeaderValue::from_str(token.as_str()).ok())
}

/// The secret of the person's own server at this port.
fn read_token(url: &ApiUrl) -> Result<Token> {
    let path = Token::path(&folders::data()?, url.port().unwrap_or_default());
    match Token::read(&path) {
        Ok(token) => Ok(token),
        Err(error) => {
            let why = format!(
                "may be another account's: `{}` cannot be read ({error})",
                path.display()
            );
            Err(untrusted(url, &why))
        }
    }
}

fn untrusted(url: &ApiUrl, who: &str) -> Error {
    Error::Untrusted {
        url: url.to_string(),
        who: who.to_owned(),
    }
}
