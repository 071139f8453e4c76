//! Who may ask a server that listens on a loopback address.
//!
//! Every account of the machine can connect there, and each task is a command of the server's owner, or uses the owner's
//! kubeconfig. So the server answers its own account and root, whatever Kubernetes is behind it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use peer::Account;
use peer::token::{CHALLENGE_HEADER, PROOF_HEADER, TOKEN_HEADER, Token};

use crate::app::AppState;
use crate::args::Args;
use crate::error::ApiError;
use crate::host::Hosts;

/// What a request must be to be answered.
#[derive(Debug)]
pub struct Guard {
    /// The account that may ask, beside root; every one when absent.
    owner: Option<Account>,
    /// What the owner's clients prove it with, where the system does not say whose a socket is.
    token: Option<(Token, PathBuf)>,
    /// The hosts that may be asked for; every one when absent.
    hosts: Option<Hosts>,
}

/// Why nothing is answered on a connection; an extension of its requests.
#[derive(Debug, Clone)]
pub struct Refused(Arc<str>);

impl Guard {
    /// For a server that listens at `address`. On other addresses than loopback clients are told apart by a proxy.
    ///
    /// # Errors
    /// The file that proves who asks cannot be written, on a system that needs one.
    pub fn new(address: SocketAddr, args: &Args) -> anyhow::Result<Self> {
        let is_loopback = address.ip().to_canonical().is_loopback();
        let owner = (is_loopback && !args.allow_local_users).then(Account::own);
        let needs_token = owner.is_some() && !peer::IS_TOLD;
        Ok(Self {
            owner,
            token: needs_token.then(|| new_token(address.port(), args)).transpose()?,
            hosts: (is_loopback || !args.allowed_host.is_empty()).then(|| Hosts::new(&args.allowed_host)),
        })
    }

    /// Whether the client of a connection is refused, and why.
    pub fn refusal(&self, connection: std::io::Result<(SocketAddr, SocketAddr)>) -> Option<Refused> {
        let owner = self.owner?;
        if !peer::IS_TOLD {
            return None;
        }
        let asks = match connection.and_then(|(local, peer)| peer::client(local, peer)) {
            Ok(Some(account)) if account.is_trusted_by(owner) => return None,
            Ok(Some(account)) => format!("you are uid {account}"),
            Ok(None) => "the connection is closed".to_owned(),
            Err(error) => format!("whose process asks is not known: {error}"),
        };
        let reason = format!(
            "this server answers only its own account (uid {owner}) and root, and {asks}; \
             start it with `--allow-local-users` to let every account of this machine in"
        );
        Some(Refused(reason.into()))
    }
}

/// A new secret for the clients of this server's account.
fn new_token(port: u16, args: &Args) -> anyhow::Result<(Token, PathBuf)> {
    let folder = match &args.state_dir {
        Some(folder) => folder.clone(),
        None => embedded::state_folder()?,
    };
    let path = Token::path(&folder, port);
    let create = || {
        std::fs::create_dir_all(&folder)?;
        Token::create(&path)
    };
    let token = create().with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok((token, path))
}

/// Answers what may be asked.
pub async fn admit(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let guard = &app.guard;
    if let Some(Refused(reason)) = request.extensions().get() {
        return ApiError::Forbidden(reason.to_string()).into_response();
    }
    let hosts = guard.hosts.as_ref();
    if let Some(reason) = hosts.and_then(|hosts| hosts.refusal(request.uri(), request.headers())) {
        return ApiError::Forbidden(reason).into_response();
    }
    let Some((token, path)) = &guard.token else {
        return next.run(request).await;
    };
    let challenge = request.headers().get(CHALLENGE_HEADER).cloned();
    let sent = request.headers().get(TOKEN_HEADER);
    let is_known = sent.is_some_and(|sent| token.is(sent.as_bytes()));
    // Whoever asks for a proof does not send the secret before it has come.
    let mut response = if is_known || (challenge.is_some() && request.uri().path() == "/healthz") {
        next.run(request).await
    } else {
        let path = path.display();
        let reason = format!(
            "this server answers only its own account: send the text of `{path}` in the header `{TOKEN_HEADER}`, \
             or start it with `--allow-local-users` to let every account of this machine in"
        );
        ApiError::Forbidden(reason).into_response()
    };
    let proof = challenge.map(|challenge| token.proof(challenge.as_bytes()));
    if let Some(proof) = proof.and_then(|proof| HeaderValue::from_str(&proof).ok()) {
        response.headers_mut().insert(PROOF_HEADER, proof);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use clap::Parser;
    use peer::Account;

    use super::Guard;
    use crate::args::Args;

    /// What a server of `owner` says to this process.
    fn refusal(owner: Option<Account>) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let guard = Guard {
            owner,
            token: None,
            hosts: None,
        };
        let refused = guard.refusal(accepted.local_addr().map(|local| (local, peer)));
        refused.map(|refused| refused.0.to_string())
    }

    #[test]
    fn the_owner_may_ask() {
        assert_eq!(refusal(Some(Account::own())), None);
        assert_eq!(refusal(None), None);
    }

    #[test]
    fn another_account_is_told_how_it_can_be_let_in() {
        let own = Account::own();
        let others = refusal(Some(Account::new(4_000_000)));
        // Root may do everything.
        if own == Account::new(0) {
            assert_eq!(others, None);
            return;
        }
        let told = others.unwrap();
        assert!(
            told.contains(&format!("you are uid {own}")) && told.contains("--allow-local-users"),
            "{told}"
        );
    }

    #[test]
    fn a_loopback_listener_is_guarded_and_another_is_not() {
        let guard = |host: &str, more: &[&str]| {
            let all = ["k8s-cli-api", "--host", host].into_iter().chain(more.iter().copied());
            let args = Args::parse_from(all);
            Guard::new((args.host, 80).into(), &args).unwrap()
        };
        for (host, is_guarded) in [("127.0.0.1", true), ("::1", true), ("0.0.0.0", false)] {
            let guard = guard(host, &[]);
            assert_eq!(
                (guard.owner.is_some(), guard.hosts.is_some()),
                (is_guarded, is_guarded),
                "{host}"
            );
        }
        let shared = guard("127.0.0.1", &["--allow-local-users"]);
        assert!(shared.owner.is_none() && shared.hosts.is_some(), "web pages stay out");
        assert!(
            guard("0.0.0.0", &["--allowed-host", "tasks.example.com"])
                .hosts
                .is_some()
        );
    }
}
