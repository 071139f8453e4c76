//! A git repository on a web server of this machine: `git http-backend`, behind a password if the repository is private.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// The most bytes of a request: what a client has and wants.
const MAX_REQUEST: usize = 1 << 20;

/// A repository, gone with this value.
pub struct GitServer {
    repository: TempDir,
    address: SocketAddr,
}

struct Backend {
    root: std::path::PathBuf,
    /// The `Authorization` that opens the repository.
    wanted: Option<String>,
}

impl GitServer {
    /// Starts a server with an empty repository. `authorization` is the header that opens it.
    pub async fn start(authorization: Option<&str>) -> Self {
        let repository = tempfile::tempdir().unwrap();
        let state = Arc::new(Backend {
            root: repository.path().to_owned(),
            wanted: authorization.map(str::to_owned),
        });
        let router = Router::new().fallback(serve).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Self { repository, address };
        server.git(&["init", "-q", "-b", "main"]);
        server
    }

    /// The URL of the repository.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/.git", self.address)
    }

    /// The folder of the repository.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.repository.path()
    }

    /// Commits a file to the current branch, and returns the commit.
    pub fn commit(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path().join(name), text).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "-qm", name]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the repository, and returns what it prints.
    pub fn git(&self, arguments: &[&str]) -> String {
        let identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"];
        let output = Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(self.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

async fn serve(State(backend): State<Arc<Backend>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    if backend
        .wanted
        .as_deref()
        .is_some_and(|wanted| header("authorization") != wanted)
    {
        let ask = [("www-authenticate", "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, ask).into_response();
    }
    let body = to_bytes(body, MAX_REQUEST).await.unwrap();
    // The interface of a CGI program (RFC 3875).
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &backend.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A program that refuses the request does not read it.
    let _ = input.write_all(&body).await;
    drop(input);
    let output = child.wait_with_output().await.unwrap().stdout;
    response(&output)
}

/// The response in the output of a CGI program.
fn response(output: &[u8]) -> Response {
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(&value[..3]),
            name => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_owned())).unwrap()
}
