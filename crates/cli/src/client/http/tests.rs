//! The client against servers that prove their identity, fail to, are older, restart, or are behind a proxy.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use peer::token::{CHALLENGE_HEADER, PROOF_HEADER, TOKEN_HEADER, Token};
use serde_json::{Value, json};
use task::wire::SERVER_HEADER;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::{ApiUrl, Client, ServerAuth, warning_text};
use crate::error::{Error, Result};
use crate::user::User;

#[test]
fn a_warning_is_its_quoted_text() {
    assert_eq!(
        warning_text(r#"299 - "say \"no\" \\ yes""#).unwrap(),
        r#"say "no" \ yes"#
    );
    assert_eq!(warning_text("299 - nothing"), None);
}

/// Request line and headers of a request.
#[derive(Debug, Clone)]
struct Head(String);

impl Head {
    fn path(&self) -> &str {
        self.0.split(' ').nth(1).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.0.lines().filter_map(|line| line.split_once(": "));
        lines
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// A server on this machine with scripted responses; `None` closes the connection without a response.
struct Server {
    url: ApiUrl,
    requests: Arc<Mutex<Vec<Head>>>,
}

impl Server {
    async fn start(response: impl Fn(&Head) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<Head>>>::default();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while stream.read_line(&mut head).await.is_ok_and(|count| count > 2) {}
                let head = Head(head);
                let response = response(&head);
                seen.lock().unwrap().push(head);
                // The client may have closed the connection already.
                let _ = stream.write_all(response.unwrap_or_default().as_bytes()).await;
            }
        });
        Self {
            url: ApiUrl::resolve(Some(&url)).unwrap(),
            requests,
        }
    }

    /// The requests received, without handshakes.
    fn requests_after_handshake(&self) -> Vec<Head> {
        let requests = self.requests.lock().unwrap().clone();
        requests.into_iter().filter(|head| head.path() != "/healthz").collect()
    }
}

fn response(status: &str, headers: &[(&str, &str)], body: &str) -> Option<String> {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    Some(format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ))
}

const OURS: (&str, &str) = (SERVER_HEADER, "test");

/// The responses of a server that knows `secret`.
fn proving_response(secret: &Mutex<Token>, head: &Head) -> Option<String> {
    let token = secret.lock().unwrap();
    let is_known = head
        .header(TOKEN_HEADER)
        .is_some_and(|sent| token.matches(sent.as_bytes()));
    let proof = head.header(CHALLENGE_HEADER).map(|word| token.proof(word.as_bytes()));
    match proof {
        Some(proof) if head.path() == "/healthz" => response("200 OK", &[OURS, (PROOF_HEADER, &proof)], "{}"),
        _ if is_known => response("200 OK", &[OURS], "{}"),
        _ => response("403 Forbidden", &[OURS], "{\"detail\": \"no\"}"),
    }
}

struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("k8s-cli-client-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A client as on systems that do not report the owner of a socket.
fn with_token(url: &ApiUrl, dir: &TempDir, is_optional: bool) -> Client {
    let dir = dir.0.clone();
    let user = User::resolve(Some("alice")).unwrap();
    let auth = ServerAuth::Token { dir, is_optional };
    Client::build(url, &user, auth).unwrap()
}

fn without_proof(url: &ApiUrl) -> Client {
    let user = User::resolve(Some("alice")).unwrap();
    Client::build(url, &user, ServerAuth::PeerAccount).unwrap()
}

async fn ask(client: &Client) -> Result<Value> {
    client.get("/tasks").await
}

#[tokio::test]
async fn where_nobody_listens_a_server_can_be_started_although_there_is_no_token() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = ApiUrl::resolve(Some(&format!("http://{free}"))).unwrap();
    let error = ask(&with_token(&url, &TempDir::new(), false)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unreachable { source, .. } if source.is_connect()),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_proves_itself_is_sent_the_token_and_one_that_is_started_anew_the_new_one() {
    let dir = TempDir::new();
    let secret = Arc::new(Mutex::new(Token::create(&dir.0.join("other")).unwrap()));
    let known = Arc::clone(&secret);
    let server = Server::start(move |head| proving_response(&known, head)).await;
    let path = Token::path(&dir.0, server.url.port().unwrap());
    *secret.lock().unwrap() = Token::create(&path).unwrap();
    let client = with_token(&server.url, &dir, false);
    assert_eq!(ask(&client).await.unwrap(), json!({}));
    *secret.lock().unwrap() = Token::create(&path).unwrap();
    assert_eq!(ask(&client).await.unwrap(), json!({}), "after a restart");
    client.stream("/tasks/x/logs").await.unwrap();
    *secret.lock().unwrap() = Token::create(&path).unwrap();
    client.stream("/tasks/x/logs").await.unwrap();
    // A 403 for another reason is reported.
    let refused = Arc::clone(&secret);
    let refusing = Server::start(move |head| match head.path() {
        "/healthz" => proving_response(&refused, head),
        _ => response("403 Forbidden", &[OURS], "{\"detail\": \"no\"}"),
    })
    .await;
    *secret.lock().unwrap() = Token::create(&Token::path(&dir.0, refusing.url.port().unwrap())).unwrap();
    let error = ask(&with_token(&refusing.url, &dir, false)).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied(_)), "{error:?}");
    assert_eq!(refusing.requests_after_handshake().len(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_is_sent_nothing_unless_it_is_trusted() {
    let dir = TempDir::new();
    let server = Server::start(|_| response("200 OK", &[OURS, (PROOF_HEADER, "wrong")], "{}")).await;
    let error = ask(&with_token(&server.url, &dir, false)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Untrusted { reason, .. } if reason.contains("cannot read")),
        "{error:?}"
    );
    Token::create(&Token::path(&dir.0, server.url.port().unwrap())).unwrap();
    let error = ask(&with_token(&server.url, &dir, false)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Untrusted { reason, .. } if reason.contains("could not prove")),
        "{error:?}"
    );
    assert!(server.requests_after_handshake().is_empty());
    assert_eq!(ask(&with_token(&server.url, &dir, true)).await.unwrap(), json!({}));
    let requests = server.requests_after_handshake();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].header(TOKEN_HEADER),
        None,
        "the secret is only sent to a server that has proven to know it"
    );
}

#[tokio::test]
async fn a_greeting_is_sent_again_after_a_reset_and_to_a_busy_proxy() {
    let tries = Mutex::new(0);
    let server = Server::start(move |_| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        match *tries {
            1 => None,
            2 => response("503 Service Unavailable", &[("retry-after", "0")], ""),
            3 => response("429 Too Many Requests", &[("retry-after", "0")], ""),
            _ => response("200 OK", &[OURS], "{}"),
        }
    })
    .await;
    assert_eq!(ask(&without_proof(&server.url)).await.unwrap(), json!({}));
}

#[tokio::test]
async fn an_older_server_is_known_by_what_it_says_of_itself() {
    let health = json!({"status": "ok", "service": "k8s-cli-api"}).to_string();
    let server = Server::start(move |_| response("200 OK", &[], &health)).await;
    let error = ask(&without_proof(&server.url)).await.unwrap_err();
    assert!(matches!(error, Error::OutdatedServer { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("api stop"));
    assert!(server.requests_after_handshake().is_empty());
}

#[tokio::test]
async fn what_a_proxy_says_on_the_way_to_a_server_is_told_as_the_proxys() {
    for status in [
        "413 Payload Too Large",
        "400 Bad Request",
        "408 Request Timeout",
        "404 Not Found",
    ] {
        let server = Server::start(move |head| match head.path() {
            "/healthz" => response("200 OK", &[OURS], "{}"),
            _ => response(status, &[], "<h1>nginx</h1>"),
        })
        .await;
        let error = ask(&without_proof(&server.url)).await.unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("a proxy between you and") && message.contains(status) && !message.contains("nginx"),
            "{message}"
        );
        assert!(error.hint().unwrap().contains("proxy"));
    }
}
