//! Decides which clients and hosts the server accepts.
//!
//! Every account of the machine can connect to a loopback address, but each task runs commands as the server's owner or
//! uses the owner's kubeconfig. A server on loopback therefore accepts only its own account and root, whether tasks run
//! on a cluster or on this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header};
use peer::Account;
use peer::token::{CHALLENGE_HEADER, PROOF_HEADER, TOKEN_HEADER, Token};

use crate::args::Args;
use crate::client::ClientInfo;
use crate::error::ApiError;
use crate::host_guard::{self, AllowedHosts};
use crate::known_paths::{is_health_route, is_task_route};
use crate::task_token::task_token;

/// The conditions for accepting a request.
#[derive(Debug)]
pub struct AccessPolicy {
    /// The account that is accepted besides root; `None` accepts every account.
    owner: Option<Account>,
    /// The secret that proves a client to be the owner's, on systems that do not report the account of a socket.
    token: Option<(Token, PathBuf)>,
    /// The hosts that a request may name; `None` accepts every host.
    hosts: Option<AllowedHosts>,
    /// Accounts that are accepted besides `owner` and root.
    accounts: Vec<Account>,
    /// The origins whose web pages may send requests.
    origins: Vec<HeaderValue>,
}

/// Marks a health check that names a host that is not allowed. Its response must not reveal anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnknownHost;

/// The reason to reject every request of a connection. Stored in the extensions of its requests.
#[derive(Debug, Clone)]
pub struct Rejected(Arc<str>);

/// How the owner of the server is recognized.
#[derive(Debug, Clone)]
enum OwnerProof {
    /// The system reports the account of a socket.
    SocketAccount,
    /// Only the owner can read the token file in this directory.
    TokenFile(PathBuf),
}

impl AccessPolicy {
    /// Creates the policy of a server that listens on `address`. On a non-loopback address, a proxy has to authenticate
    /// clients.
    pub fn new(address: SocketAddr, args: &Args) -> anyhow::Result<Self> {
        let owner_proof = if peer::REPORTS_OWNERS {
            OwnerProof::SocketAccount
        } else {
            // Ignore `--state-dir`: clients look for the token in the default directory.
            OwnerProof::TokenFile(embedded::default_state_dir()?)
        };
        Self::with(address, args, &owner_proof)
    }

    fn with(address: SocketAddr, args: &Args, owner_proof: &OwnerProof) -> anyhow::Result<Self> {
        let is_loopback = address.ip().to_canonical().is_loopback();
        let owner = (is_loopback && !args.allow_local_users).then(Account::own);
        let token = match owner_proof {
            OwnerProof::TokenFile(dir) if owner.is_some() => Some(create_token(address.port(), dir)?),
            _ => None,
        };
        // Pods name the host of the advertised URL, and tasks on this machine the address of the listener.
        let advertised = args.advertise_url.iter().map(|advertised| advertised.host.clone());
        let own = address.ip().to_string();
        let hosts = args.allowed_host.iter().cloned().chain(advertised).chain([own]);
        Ok(Self {
            owner,
            token,
            hosts: (is_loopback || !args.allowed_host.is_empty()).then(|| AllowedHosts::new(hosts.collect())),
            accounts: args.allow_uid.iter().copied().map(Account::new).collect(),
            origins: args.cors_origin.clone(),
        })
    }

    /// The reason to reject the client of a connection, or `None` if it is accepted.
    pub fn reject(&self, client: &ClientInfo) -> Option<Rejected> {
        let owner = self.owner.filter(|_| self.token.is_none())?;
        let account = match &client.account {
            Ok(Some(account)) if account.is_trusted_by(owner) || self.accounts.contains(account) => return None,
            Ok(Some(account)) => format!("this client runs as uid {account}"),
            Ok(None) => "the connection is already closed".to_owned(),
            Err(error) => format!("the client's account is unknown: {error}"),
        };
        let reason = format!(
            "this server accepts only its own account (uid {owner}) and root, but {account}; \
             start it with `--allow-uid` to accept another account, or with `--allow-local-users` to accept all of them"
        );
        Some(Rejected(reason.into()))
    }

    /// Whether a browser sends this request for a page of another site, and the request may change something. Behind a
    /// proxy that authenticates by password or cookie, a browser would add those to the request of any page. Browsers
    /// say which site a request comes from; other clients don't, and are not checked.
    fn is_from_another_site(&self, request: &Request) -> bool {
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let headers = request.headers();
        let is_allowed = headers
            .get(header::ORIGIN)
            .is_some_and(|origin| self.origins.contains(origin));
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        !is_safe && !is_allowed && site.is_some_and(|site| site != b"same-origin" && site != b"none")
    }

    /// Runs an accepted request, or answers with 403. It runs the request at one place only: each would be a part of
    /// the future of every request.
    pub(crate) async fn run_if_allowed(
        &self,
        mut request: Request,
        next: impl AsyncFnOnce(Request) -> Response,
    ) -> Response {
        let challenge = self
            .token
            .as_ref()
            .and(request.headers().get(CHALLENGE_HEADER).cloned());
        let mut response = match self.check(&mut request) {
            Ok(()) => next(request).await,
            Err(error) => error.into_response(),
        };
        let token = self.token.as_ref().map(|(token, _)| token);
        let proof = token
            .zip(challenge)
            .map(|(token, challenge)| token.proof(challenge.as_bytes()));
        if let Some(proof) = proof.and_then(|proof| HeaderValue::from_str(&proof).ok()) {
            response.headers_mut().insert(PROOF_HEADER, proof);
        }
        response
    }

    /// Whether a request may be answered.
    fn check(&self, request: &mut Request) -> Result<(), ApiError> {
        if let Some(Rejected(reason)) = request.extensions().get() {
            return Err(ApiError::Forbidden(reason.to_string()));
        }
        if let Some(reason) = host_guard::malformed(request.version(), request.headers()) {
            return Err(ApiError::BadRequest(reason));
        }
        let hosts = self.hosts.as_ref();
        if let Some(reason) = hosts.and_then(|hosts| hosts.reject(request.uri(), request.headers())) {
            // Accept any host in health checks: a kubelet names the pod's IP address, and load balancers such as
            // HAProxy name no host.
            if !is_health_route(request.uri().path()) {
                return Err(ApiError::Forbidden(reason));
            }
            request.extensions_mut().insert(UnknownHost);
        }
        if self.is_from_another_site(request) {
            let reason = "requests from web pages of other sites are not allowed; start the server with \
                          `--cors-origin` to allow the pages of an origin";
            return Err(ApiError::Forbidden(reason.to_owned()));
        }
        let Some((token, path)) = &self.token else {
            return Ok(());
        };
        if is_task_route(request.uri().path()) && task_token(request.headers()).is_some() {
            // It is checked there.
            return Ok(());
        }
        let sent = request.headers().get(TOKEN_HEADER);
        let is_known = sent.is_some_and(|sent| token.matches(sent.as_bytes()));
        // A client that sends a challenge wants proof that this is its own server before it reveals the token, so
        // answer `/healthz` without the token.
        let is_challenge = request.headers().contains_key(CHALLENGE_HEADER) && request.uri().path() == "/healthz";
        if is_known || is_challenge {
            return Ok(());
        }
        let path = path.display();
        Err(ApiError::Forbidden(format!(
            "this server accepts only its own account: send the contents of `{path}` in the `{TOKEN_HEADER}` header, \
             or start it with `--allow-local-users` to accept every account of this machine"
        )))
    }
}

/// Creates a secret in a file that only this account can read.
fn create_token(port: u16, dir: &Path) -> anyhow::Result<(Token, PathBuf)> {
    let path = Token::path(dir, port);
    let create = || {
        std::fs::create_dir_all(dir)?;
        Token::create(&path)
    };
    let token = create().with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok((token, path))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::path::Path;
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::response::Response;
    use axum::routing::{get, post};
    use clap::Parser;
    use http::{HeaderValue, Version};
    use peer::Account;
    use peer::token::{CHALLENGE_HEADER, PROOF_HEADER, TOKEN_HEADER, Token};
    use tower::ServiceExt;

    use super::{AccessPolicy, OwnerProof};
    use crate::args::Args;
    use crate::client::{ClientId, ClientInfo};

    /// The reason why a server of `owner` refuses a client of `account`.
    fn rejection(owner: Option<Account>, account: u32) -> Option<String> {
        rejection_with(owner, &[], account)
    }

    fn rejection_with(owner: Option<Account>, accounts: &[u32], account: u32) -> Option<String> {
        let client = ClientInfo {
            id: ClientId::UNKNOWN,
            account: Ok(Some(Account::new(account))),
        };
        let policy = AccessPolicy {
            owner,
            token: None,
            hosts: None,
            accounts: accounts.iter().copied().map(Account::new).collect(),
            origins: Vec::new(),
        };
        policy.reject(&client).map(|rejected| rejected.0.to_string())
    }

    #[test]
    fn the_owner_and_root_may_ask() {
        assert_eq!(rejection(Some(Account::new(1000)), 1000), None);
        assert_eq!(rejection(Some(Account::new(1000)), 0), None);
        assert_eq!(rejection(None, 1001), None);
        let owner = Some(Account::new(1000));
        assert_eq!(rejection_with(owner, &[33], 33), None);
        assert!(rejection_with(owner, &[33], 34).is_some());
    }

    #[test]
    fn another_account_is_told_how_it_can_be_let_in() {
        let reason = rejection(Some(Account::new(1000)), 1001).unwrap();
        assert!(
            reason.contains("(uid 1000)")
                && reason.contains("runs as uid 1001")
                && reason.contains("--allow-uid")
                && reason.contains("--allow-local-users"),
            "{reason}"
        );
    }

    fn policy(host: &str, more: &[&str]) -> AccessPolicy {
        let all = ["k8s-cli-api", "--host", host].into_iter().chain(more.iter().copied());
        let args = Args::parse_from(all);
        AccessPolicy::with((args.host, 80).into(), &args, &OwnerProof::SocketAccount).unwrap()
    }

    #[test]
    fn a_loopback_listener_is_guarded_and_another_is_not() {
        for (host, is_guarded) in [("127.0.0.1", true), ("::1", true), ("0.0.0.0", false)] {
            let policy = policy(host, &[]);
            assert_eq!(
                (policy.owner.is_some(), policy.hosts.is_some()),
                (is_guarded, is_guarded),
                "{host}"
            );
        }
        let shared = policy("127.0.0.1", &["--allow-local-users"]);
        assert!(
            shared.owner.is_none() && shared.hosts.is_some(),
            "web pages are still refused"
        );
        assert!(
            policy("0.0.0.0", &["--allowed-host", "tasks.example.com"])
                .hosts
                .is_some()
        );
    }

    #[tokio::test]
    async fn a_request_names_one_host() {
        let policy = Arc::new(policy("127.0.0.1", &[]));
        for path in ["/tasks", "/healthz"] {
            assert_eq!(send(&policy, path, &[]).await.status(), 400);
            let two = [("host", "localhost"), ("host", "localhost")];
            assert_eq!(send(&policy, path, &two).await.status(), 400);
        }
        assert_eq!(send_over(Version::HTTP_10, &policy, "/tasks", &[]).await.status(), 403);
    }

    /// The response of a server with this policy to a request with these headers.
    async fn send(policy: &Arc<AccessPolicy>, path: &str, headers: &[(&str, &str)]) -> Response {
        send_over(Version::HTTP_11, policy, path, headers).await
    }

    async fn send_over(version: Version, policy: &Arc<AccessPolicy>, path: &str, headers: &[(&str, &str)]) -> Response {
        let routes = ["/", "/tasks", "/healthz", "/readyz"]
            .into_iter()
            .fold(Router::new(), |router, path| {
                router.route(path, get(|| async { "answered" }))
            });
        let mut request = Request::builder().uri(path).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let run = async |request| routes.oneshot(request).await.unwrap();
        policy.run_if_allowed(request, run).await
    }

    #[tokio::test]
    async fn a_probe_may_name_any_host_or_none() {
        let policy = Arc::new(policy("0.0.0.0", &["--allowed-host", "tasks.example.com"]));
        for path in ["/", "/healthz", "/readyz"] {
            assert_eq!(send(&policy, path, &[("host", "10.1.2.3:8000")]).await.status(), 200);
            assert_eq!(send_over(Version::HTTP_10, &policy, path, &[]).await.status(), 200);
        }
        assert_eq!(
            send(&policy, "/tasks", &[("host", "10.1.2.3:8000")]).await.status(),
            403
        );
        assert_eq!(
            send(&policy, "/tasks", &[("host", "tasks.example.com")]).await.status(),
            200
        );
    }

    #[tokio::test]
    async fn a_web_page_of_another_site_changes_nothing() {
        let policy = Arc::new(policy("127.0.0.1", &["--cors-origin", "https://ui.example"]));
        let post = async |headers: &[(&str, &str)]| {
            let routes = Router::new().route("/tasks/stop", post(|| async { "answered" }));
            let mut request = Request::builder()
                .method("POST")
                .uri("/tasks/stop")
                .header("host", "localhost");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Body::empty()).unwrap();
            let run = async |request| routes.oneshot(request).await.unwrap();
            policy.run_if_allowed(request, run).await.status()
        };
        for site in ["cross-site", "same-site"] {
            let evil = [("sec-fetch-site", site), ("origin", "https://evil.example")];
            assert_eq!(post(&evil).await, 403, "{site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(post(&[("sec-fetch-site", site)]).await, 200, "{site}");
        }
        let allowed = [("sec-fetch-site", "cross-site"), ("origin", "https://ui.example")];
        assert_eq!(post(&allowed).await, 200);
        assert_eq!(post(&[]).await, 200, "not a browser");
    }

    /// The policy of a server on a system that does not report accounts, and its token.
    fn with_token(dir: &Path) -> (Arc<AccessPolicy>, Token) {
        let args = Args::parse_from(["k8s-cli-api"]);
        let address = SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 8123));
        let policy = AccessPolicy::with(address, &args, &OwnerProof::TokenFile(dir.to_owned())).unwrap();
        (Arc::new(policy), Token::read(&Token::path(dir, 8123)).unwrap())
    }

    #[tokio::test]
    async fn where_the_system_says_nothing_only_who_has_the_token_is_answered() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-access-{}", std::process::id()));
        let (policy, token) = with_token(&dir.join("new"));
        std::fs::remove_dir_all(&dir).unwrap();
        let client = ClientInfo {
            id: ClientId::UNKNOWN,
            account: Err(std::io::ErrorKind::Unsupported.into()),
        };
        assert!(
            policy.reject(&client).is_none(),
            "each request is checked by its token instead"
        );
        let host = ("host", "localhost");
        let ask = async |path: &str, header: (&str, &str)| send(&policy, path, &[host, header]).await;
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
