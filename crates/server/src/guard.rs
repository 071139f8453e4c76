//! Decides which clients and hosts the server accepts.
//!
//! Every account of the machine can connect to a loopback address, but each task runs commands as the server's owner or
//! uses the owner's kubeconfig. A server on loopback therefore accepts only its own account and root, whether tasks run
//! on a cluster or on this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use peer::Account;
use peer::token::{CHALLENGE_HEADER, PROOF_HEADER, TOKEN_HEADER, Token};

use crate::args::Args;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::host::Hosts;

/// The conditions for accepting a request.
#[derive(Debug)]
pub struct Guard {
    /// The account that is accepted besides root; `None` accepts every account.
    owner: Option<Account>,
    /// The secret that proves a client to be the owner's, on systems that do not report the account of a socket.
    token: Option<(Token, PathBuf)>,
    /// The hosts that a request may name; `None` accepts every host.
    hosts: Option<Hosts>,
}

/// The reason to refuse every request of a connection. Stored in the extensions of its requests.
#[derive(Debug, Clone)]
pub struct Refused(Arc<str>);

/// How the owner of the server is recognized.
#[derive(Debug, Clone)]
enum Evidence {
    /// The system reports the account of a socket.
    Socket,
    /// Only the owner can read the token file in this directory.
    File(PathBuf),
}

impl Guard {
    /// Creates the guard of a server that listens on `address`. On a non-loopback address, a proxy has to authenticate
    /// clients.
    pub fn new(address: SocketAddr, args: &Args) -> anyhow::Result<Self> {
        let evidence = if peer::REPORTS_OWNERS {
            Evidence::Socket
        } else {
            // Ignore `--state-dir`: clients look for the token in the default directory.
            Evidence::File(embedded::default_state_dir()?)
        };
        Self::with(address, args, &evidence)
    }

    fn with(address: SocketAddr, args: &Args, evidence: &Evidence) -> anyhow::Result<Self> {
        let is_loopback = address.ip().to_canonical().is_loopback();
        let owner = (is_loopback && !args.allow_local_users).then(Account::own);
        let token = match evidence {
            Evidence::File(folder) if owner.is_some() => Some(new_token(address.port(), folder)?),
            _ => None,
        };
        Ok(Self {
            owner,
            token,
            hosts: (is_loopback || !args.allowed_host.is_empty()).then(|| Hosts::new(&args.allowed_host)),
        })
    }

    /// The reason to refuse the client of a connection, or `None` if it is accepted.
    pub fn refusal(&self, caller: &Caller) -> Option<Refused> {
        let owner = self.owner.filter(|_| self.token.is_none())?;
        let asks = match &caller.account {
            Ok(Some(account)) if account.is_trusted_by(owner) => return None,
            Ok(Some(account)) => format!("this client runs as uid {account}"),
            Ok(None) => "the connection is already closed".to_owned(),
            Err(error) => format!("the client's account is unknown: {error}"),
        };
        let reason = format!(
            "this server accepts only its own account (uid {owner}) and root, but {asks}; \
             start it with `--allow-local-users` to accept every account of this machine"
        );
        Some(Refused(reason.into()))
    }

    /// Runs an accepted request, or answers with 403.
    async fn admit(&self, request: Request, next: Next) -> Response {
        if let Some(Refused(reason)) = request.extensions().get() {
            return ApiError::Forbidden(reason.to_string()).into_response();
        }
        // Accept any host in health checks: a kubelet names the pod's IP address, and many load balancers name no
        // host. The responses contain nothing that a web page could exploit.
        let is_probe = matches!(request.uri().path(), "/healthz" | "/readyz");
        let hosts = self.hosts.as_ref().filter(|_| !is_probe);
        if let Some(reason) = hosts.and_then(|hosts| hosts.refusal(request.uri(), request.headers())) {
            return ApiError::Forbidden(reason).into_response();
        }
        let Some((token, path)) = &self.token else {
            return next.run(request).await;
        };
        let challenge = request.headers().get(CHALLENGE_HEADER).cloned();
        let sent = request.headers().get(TOKEN_HEADER);
        let is_known = sent.is_some_and(|sent| token.matches(sent.as_bytes()));
        // A client that sends a challenge wants proof that this is its own server before it reveals the token, so
        // answer `/healthz` without the token.
        let mut response = if is_known || (challenge.is_some() && request.uri().path() == "/healthz") {
            next.run(request).await
        } else {
            let path = path.display();
            let reason = format!(
                "this server accepts only its own account: send the contents of `{path}` in the `{TOKEN_HEADER}` \
                 header, or start it with `--allow-local-users` to accept every account of this machine"
            );
            ApiError::Forbidden(reason).into_response()
        };
        let proof = challenge.map(|challenge| token.proof(challenge.as_bytes()));
        if let Some(proof) = proof.and_then(|proof| HeaderValue::from_str(&proof).ok()) {
            response.headers_mut().insert(PROOF_HEADER, proof);
        }
        response
    }
}

/// Creates a secret in a file that only this account can read.
fn new_token(port: u16, folder: &Path) -> anyhow::Result<(Token, PathBuf)> {
    let path = Token::path(folder, port);
    let create = || {
        std::fs::create_dir_all(folder)?;
        Token::create(&path)
    };
    let token = create().with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok((token, path))
}

/// Middleware that applies the guard.
pub async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    guard.admit(request, next).await
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::path::Path;
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::middleware::from_fn_with_state;
    use axum::response::Response;
    use axum::routing::get;
    use clap::Parser;
    use http::HeaderValue;
    use peer::Account;
    use peer::token::{CHALLENGE_HEADER, PROOF_HEADER, TOKEN_HEADER, Token};
    use tower::ServiceExt;

    use super::{Evidence, Guard, admit};
    use crate::args::Args;
    use crate::caller::{Caller, Client};

    /// The reason why a server of `owner` refuses a client of `account`.
    fn refusal(owner: Option<Account>, account: u32) -> Option<String> {
        let caller = Caller {
            client: Client::UNKNOWN,
            account: Ok(Some(Account::new(account))),
        };
        let guard = Guard {
            owner,
            token: None,
            hosts: None,
        };
        guard.refusal(&caller).map(|refused| refused.0.to_string())
    }

    #[test]
    fn the_owner_and_root_may_ask() {
        assert_eq!(refusal(Some(Account::new(1000)), 1000), None);
        assert_eq!(refusal(Some(Account::new(1000)), 0), None);
        assert_eq!(refusal(None, 1001), None);
    }

    #[test]
    fn another_account_is_told_how_it_can_be_let_in() {
        let told = refusal(Some(Account::new(1000)), 1001).unwrap();
        assert!(
            told.contains("(uid 1000)") && told.contains("runs as uid 1001") && told.contains("--allow-local-users"),
            "{told}"
        );
    }

    fn guard(host: &str, more: &[&str]) -> Guard {
        let all = ["k8s-cli-api", "--host", host].into_iter().chain(more.iter().copied());
        let args = Args::parse_from(all);
        Guard::with((args.host, 80).into(), &args, &Evidence::Socket).unwrap()
    }

    #[test]
    fn a_loopback_listener_is_guarded_and_another_is_not() {
        for (host, is_guarded) in [("127.0.0.1", true), ("::1", true), ("0.0.0.0", false)] {
            let guard = guard(host, &[]);
            assert_eq!(
                (guard.owner.is_some(), guard.hosts.is_some()),
                (is_guarded, is_guarded),
                "{host}"
            );
        }
        let shared = guard("127.0.0.1", &["--allow-local-users"]);
        assert!(
            shared.owner.is_none() && shared.hosts.is_some(),
            "web pages are still refused"
        );
        assert!(
            guard("0.0.0.0", &["--allowed-host", "tasks.example.com"])
                .hosts
                .is_some()
        );
    }

    /// The response of a guarded server to a request with these headers.
    async fn answer(guard: &Arc<Guard>, path: &str, headers: &[(&str, &str)]) -> Response {
        let routes = ["/tasks", "/healthz", "/readyz"]
            .into_iter()
            .fold(Router::new(), |router, path| {
                router.route(path, get(|| async { "answered" }))
            });
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let admit = from_fn_with_state(Arc::clone(guard), admit);
        routes.layer(admit).oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_probe_may_name_any_host_or_none() {
        let guard = Arc::new(guard("0.0.0.0", &["--allowed-host", "tasks.example.com"]));
        for path in ["/healthz", "/readyz"] {
            assert_eq!(answer(&guard, path, &[("host", "10.1.2.3:8000")]).await.status(), 200);
            assert_eq!(answer(&guard, path, &[]).await.status(), 200);
        }
        assert_eq!(
            answer(&guard, "/tasks", &[("host", "10.1.2.3:8000")]).await.status(),
            403
        );
        assert_eq!(
            answer(&guard, "/tasks", &[("host", "tasks.example.com")])
                .await
                .status(),
            200
        );
    }

    /// The guard of a server on a system that does not report accounts, and its token.
    fn with_token(folder: &Path) -> (Arc<Guard>, Token) {
        let args = Args::parse_from(["k8s-cli-api"]);
        let address = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 8123));
        let guard = Guard::with(address, &args, &Evidence::File(folder.to_owned())).unwrap();
        (Arc::new(guard), Token::read(&Token::path(folder, 8123)).unwrap())
    }

    #[tokio::test]
    async fn where_the_system_says_nothing_only_who_has_the_token_is_answered() {
        let folder = std::env::temp_dir().join(format!("k8s-cli-guard-{}", std::process::id()));
        let (guard, token) = with_token(&folder.join("new"));
        std::fs::remove_dir_all(&folder).unwrap();
        let caller = Caller {
            client: Client::UNKNOWN,
            account: Err(std::io::ErrorKind::Unsupported.into()),
        };
        assert!(
            guard.refusal(&caller).is_none(),
            "each request is checked by its token instead"
        );
        let host = ("host", "localhost");
        let ask = async |path: &str, header: (&str, &str)| answer(&guard, path, &[host, header]).await;
        for (path, header) in [
            ("/tasks", ("x-user", "alice")),
            ("/tasks", (TOKEN_HEADER, "wrong")),
            ("/tasks", (CHALLENGE_HEADER, "word")),
            ("/healthz", ("x-user", "alice")),
        ] {
            assert_eq!(ask(path, header).await.status(), 403, "{path} {header:?}");
        }
        assert_eq!(ask("/tasks", (TOKEN_HEADER, token.as_str())).await.status(), 200);
        let greeted = ask("/healthz", (CHALLENGE_HEADER, "word")).await;
        let proof = greeted.headers().get(PROOF_HEADER).map(HeaderValue::as_bytes);
        assert_eq!(greeted.status(), 200);
        assert_eq!(proof, Some(token.proof(b"word").as_bytes()));
    }
}
