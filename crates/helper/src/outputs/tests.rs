//! Sends outputs to a server that breaks off and refuses.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Json, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Router, serve};
use files::{ContentHash, EntryKind, Limits, Manifest, Pack};
use serde_json::json;

use super::{Try, keep_as_they_are, parse};
use crate::error::Error;
use crate::source::Source;
use crate::upload::Upload;

const TOKEN: &str = "task.secret";

#[derive(Default)]
struct Server {
    contents: Mutex<HashMap<ContentHash, Bytes>>,
    kept: Mutex<Option<Manifest>>,
    requests: AtomicUsize,
    /// Whether contents are forgotten as soon as they arrive.
    loses: bool,
}

impl Server {
    /// Every other request fails.
    fn fault(&self, headers: &HeaderMap) -> Option<Response> {
        if headers["authorization"] != format!("Bearer {TOKEN}") {
            return Some((StatusCode::FORBIDDEN, Json(json!({"detail": "no access"}))).into_response());
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        number
            .is_multiple_of(2)
            .then(|| StatusCode::BAD_GATEWAY.into_response())
    }
}

async fn take_manifest(
    State(server): State<Arc<Server>>,
    Path(_set): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(fault) = server.fault(&headers) {
        return fault;
    }
    let manifest = Manifest::parse(&body, &Limits::NONE).unwrap();
    let known = server.contents.lock().unwrap();
    let missing = manifest.contents().into_keys().filter(|hash| !known.contains_key(hash));
    let missing: Vec<String> = missing.map(|hash| hash.to_string()).collect();
    if missing.is_empty() {
        *server.kept.lock().unwrap() = Some(manifest);
    }
    Json(json!({ "missing": missing })).into_response()
}

async fn take_contents(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(fault) = server.fault(&headers) {
        return fault;
    }
    let contents = Pack::parse(body)
        .unwrap()
        .map(|content| (ContentHash::of(&content), content));
    if !server.loses {
        server.contents.lock().unwrap().extend(contents);
    }
    Json(json!({"stored": 1})).into_response()
}

async fn start(server: Server) -> (Arc<Server>, String) {
    let server = Arc::new(server);
    let router = Router::new()
        .route("/outputs/contents", post(take_contents))
        .route("/outputs/{set}", put(take_manifest))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { serve(listener, router).await });
    (server, url)
}

async fn keep(url: &str, token: &str, arguments: &[&str]) -> Result<(), Error> {
    keep_of_attempt(1, url, token, arguments).await
}

async fn keep_of_attempt(attempt: u32, url: &str, token: &str, arguments: &[&str]) -> Result<(), Error> {
    let arguments = arguments.iter().map(Into::into).collect();
    let upload = Upload::new(Source::of_attempt(attempt, url, token), Duration::from_secs(20));
    keep_as_they_are(&upload, &parse(arguments)?, Try::Last).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_are_kept_at_their_names_over_outages() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("run/deep")).unwrap();
    fs::write(path("run/deep/log"), "lines").unwrap();
    fs::write(path("model.pt"), vec![7; 20 << 20]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path("run/out")).unwrap();
    let (server, url) = start(Server::default()).await;
    let arguments = [
        "results/run",
        &path("run"),
        "best.pt",
        &path("model.pt"),
        "none",
        &path("none"),
    ];
    keep(&url, TOKEN, &arguments).await.unwrap();
    let kept = server.kept.lock().unwrap().clone().unwrap();
    let names: Vec<String> = kept.entries().iter().map(|entry| entry.path.to_string()).collect();
    assert_eq!(
        names,
        [
            "best.pt",
            "results",
            "results/run",
            "results/run/deep",
            "results/run/deep/log"
        ]
    );
    assert!(matches!(&kept.entries()[0].kind, EntryKind::File { contents, .. } if contents.len() > 1));
    assert_eq!(kept.total_bytes(), (20 << 20) + 5);
    assert_eq!(server.contents.lock().unwrap().len(), kept.contents().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_do_not_exist_are_no_failure() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("below").to_str().unwrap().to_owned();
    let (server, url) = start(Server::default()).await;
    keep(&url, TOKEN, &["a", "/no/such", "b", &below]).await.unwrap();
    assert_eq!(server.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_without_outputs_has_none() {
    let (server, url) = start(Server::default()).await;
    keep_of_attempt(2, &url, TOKEN, &["a", "/no/such"]).await.unwrap();
    let kept = server.kept.lock().unwrap().clone().unwrap();
    assert!(kept.entries().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_cannot_be_kept_does_not_lose_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("good"), "x").unwrap();
    fs::create_dir_all(path(&format!("deep/{}", vec!["d"; 300].join("/")))).unwrap();
    fs::write(path("deep/log"), "lines").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let (server, url) = start(Server::default()).await;
    let arguments = [
        "socket",
        &path("socket"),
        "run/deep",
        &path("deep"),
        "good",
        &path("good"),
    ];
    let error = keep(&url, TOKEN, &arguments).await.unwrap_err();
    let Error::Outputs(failures) = &error else {
        panic!("{error}")
    };
    assert!(failures.len() == 2 && failures[0].contains("is a socket"), "{error}");
    assert!(
        failures[1].starts_with("`run/deep` is kept without what cannot be read: `d/d/"),
        "{error}"
    );
    let kept = server.kept.lock().unwrap().clone().unwrap();
    let has = |name: &str| kept.entries().iter().any(|entry| entry.path.to_string() == name);
    assert!(has("good") && has("run/deep/log") && !has("socket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_and_a_server_that_forgets_are_failures() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "x").unwrap();
    let path = file.path().to_str().unwrap();
    let (_, url) = start(Server::default()).await;
    let error = keep(&url, "wrong", &["a", path]).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 403, .. }), "{error}");
    let forgetful = Server {
        loses: true,
        ..Server::default()
    };
    let (_, url) = start(forgetful).await;
    let error = keep(&url, TOKEN, &["a", path]).await.unwrap_err();
    assert!(matches!(error, Error::NotKept { .. }), "{error}");
    assert!(matches!(
        keep(&url, TOKEN, &["../a", path]).await,
        Err(Error::Output { .. })
    ));
}
