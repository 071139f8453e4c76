//! Tests of all routes in this process: the real router and executor, on the embedded engine's control plane in memory.
//! It has no node, so tasks stay pending.

use archive::{FileStore, Location};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use clap::Parser;
use clock::Clock;
use embedded::{ControlPlane, NodeCapacity};
use executor::{Executor, Settings};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use task::wire::{BackendKind, SERVER_HEADER};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Routes, catch_panic, is_known_path, router};
use crate::access::AccessPolicy;
use crate::app::{App, AppState};
use crate::args::Args;
use crate::file_sets::FileSets;
use crate::limits::RequestLimits;
use crate::openapi;
use crate::telemetry::metrics::Metrics;

const MAX_NODES: u32 = 3;

/// A server without a listener.
const LIMITS: files::Limits = files::Limits {
    max_entries: 100,
    max_total_bytes: 1 << 20,
    max_manifest_bytes: 1 << 20,
};

struct TestServer {
    routes: Routes,
    /// Its Kubernetes, which ends when this is dropped.
    _control_plane: ControlPlane,
}

/// A response whose body has been read.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Value,
}

impl TestServer {
    async fn start() -> Self {
        let control_plane = ControlPlane::start(Clock::system(), 1, NodeCapacity::default())
            .await
            .unwrap();
        let client = executor::client(control_plane.router(), "default");
        let args = Args::parse_from(["k8s-cli-api"]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
        let app = AppState(Arc::new(App {
            backend: BackendKind::Embedded,
            executor: Executor::start(client, Settings::default()).await.unwrap(),
            files: FileStore::open(&Location::memory(), LIMITS, 1 << 30).unwrap(),
            file_sets: FileSets::default(),
            max_packed_files: Some(1 << 20),
            access: Arc::new(AccessPolicy::new(address, &args).unwrap()),
            limits: RequestLimits::new(1, 1),
            metrics: Metrics::detached(),
            openapi: openapi::document(MAX_NODES, ""),
            stopping: CancellationToken::new(),
            max_nodes: MAX_NODES,
            cors_origins: args.cors_origin,
            root_path: String::new(),
            idle_timeout: args.idle_timeout,
        }));
        Self {
            routes: router(app),
            _control_plane: control_plane,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response = self.routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()),
        }
    }

    /// Sends a request of a user.
    async fn call(&self, user: &str, method: Method, path: &str) -> Answer {
        self.send(
            request(method, path)
                .header("x-user", user)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    /// Sends a request of alice with a JSON body and more headers.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut request = request(Method::POST, path)
            .header("x-user", "alice")
            .header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Submits a task and returns its ID.
    async fn submit(&self, headers: &[(&str, &str)], body: &Value) -> String {
        let answer = self.post("/tasks/submit", headers, body).await.ok();
        answer["task_id"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    /// The body of a successful response.
    fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    /// Checks the status and the message of an error response.
    fn is_error(&self, status: u16, detail: &str) {
        assert_eq!(
            (self.status.as_u16(), &self.body),
            (status, &json!({ "detail": detail }))
        );
    }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
}

#[tokio::test]
async fn a_task_is_submitted_listed_and_stopped_by_its_user_only() {
    let server = TestServer::start().await;
    let answer = server
        .post("/tasks/submit", &[], &json!({"name": "hello", "run": "true"}))
        .await;
    let id = answer.body["task_id"].as_str().unwrap().to_owned();
    assert_eq!(
        answer.ok(),
        json!({"task_id": id, "status": "submitted", "message": format!("Task submitted successfully with ID: {id}")})
    );
    let path = format!("/tasks/{id}");
    let status = server.call("alice", Method::GET, &path).await.ok();
    assert_eq!(
        (&status["name"], &status["status"], &status["username"]),
        (&json!("hello"), &json!("pending"), &json!("alice"))
    );
    assert_eq!(
        server.call("alice", Method::GET, "/tasks").await.ok(),
        json!({ "tasks": [status] })
    );
    assert_eq!(
        server.call("bob", Method::GET, "/tasks").await.ok(),
        json!({"tasks": []})
    );
    let all = server.call("bob", Method::GET, "/tasks?all_users=yes").await.ok();
    assert_eq!(all["tasks"].as_array().unwrap().len(), 1);
    let not_found = format!("Task {id} not found");
    server.call("bob", Method::GET, &path).await.is_error(404, &not_found);
    server
        .call("bob", Method::POST, &format!("{path}/stop"))
        .await
        .is_error(404, &not_found);
    let stopped = server.call("alice", Method::POST, &format!("{path}/stop")).await.ok();
    assert_eq!(stopped["message"], json!(format!("Task {id} stopped successfully")));
    server.call("alice", Method::GET, &path).await.is_error(404, &not_found);
}

#[tokio::test]
async fn a_key_identifies_a_submission() {
    let server = TestServer::start().await;
    let key = [("idempotency-key", "one")];
    let task = json!({"name": "a", "run": "true"});
    let id = server.submit(&key, &task).await;
    assert_eq!(server.submit(&key, &task).await, id);
    assert_ne!(server.submit(&[("idempotency-key", "two")], &task).await, id);
    let other = server
        .post("/tasks/submit", &key, &json!({"name": "b", "run": "true"}))
        .await;
    assert_eq!(other.status, StatusCode::CONFLICT, "{}", other.body);
}

#[tokio::test]
async fn a_dry_run_creates_nothing_and_warns_of_fields_without_effect() {
    let server = TestServer::start().await;
    let task = json!({"run": "true", "file_mounts": {"/a": "b"}, "num_nodes": 2});
    let answer = server.post("/tasks/submit?dry_run=true", &[], &task).await;
    let warnings: Vec<_> = answer.headers.get_all(header::WARNING).iter().collect();
    assert_eq!(
        warnings[0],
        "299 - \"local files of `file_mounts` are copied only by the CLI; upload them, and use `files`\""
    );
    assert_eq!(answer.ok()["status"], "dry_run");
    assert_eq!(
        server.call("alice", Method::GET, "/tasks").await.ok(),
        json!({"tasks": []})
    );
}

#[tokio::test]
async fn one_response_lists_the_errors_of_query_headers_and_body() {
    let server = TestServer::start().await;
    let request = request(Method::POST, "/tasks/submit?dry_run=perhaps")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({"nmae": "x"}).to_string()));
    let answer = server.send(request.unwrap()).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let errors = answer.body["detail"].as_array().unwrap().iter();
    let errors: Vec<Value> = errors.map(|error| json!([error["type"], error["loc"]])).collect();
    assert_eq!(
        errors,
        [
            json!(["bool_parsing", ["query", "dry_run"]]),
            json!(["missing", ["header", "x-user"]]),
            json!(["missing", ["body", "run"]]),
            json!(["extra_forbidden", ["body", "nmae"]]),
        ]
    );
    let too_many = server
        .post(
            "/tasks/submit",
            &[],
            &json!({"run": "true", "num_nodes": MAX_NODES + 1}),
        )
        .await;
    assert_eq!(
        too_many.body["detail"][0]["msg"],
        "Input should be less than or equal to 3"
    );
}

#[tokio::test]
async fn a_volume_is_created_listed_and_deleted() {
    let server = TestServer::start().await;
    let created = server
        .post("/volumes/create", &[], &json!({"name": "data", "size": "1Gi"}))
        .await;
    let id = created.ok()["volume_id"].as_str().unwrap().to_owned();
    let path = format!("/volumes/{id}");
    let volume = server.call("alice", Method::GET, &path).await.ok();
    assert_eq!((&volume["name"], &volume["size"]), (&json!("data"), &json!("1Gi")));
    assert_eq!(
        server.call("alice", Method::GET, "/volumes").await.ok(),
        json!({ "volumes": [volume] })
    );
    let not_found = format!("Volume {id} not found");
    server
        .call("bob", Method::DELETE, &path)
        .await
        .is_error(404, &not_found);
    let deleted = server.call("alice", Method::DELETE, &path).await.ok();
    assert_eq!(deleted["message"], json!(format!("Volume {id} deleted successfully")));
}

#[tokio::test]
async fn paths_and_methods_are_answered_as_by_fastapi() {
    let server = TestServer::start().await;
    server
        .call("alice", Method::GET, "/nothing")
        .await
        .is_error(404, "Not Found");
    for (method, path, allowed) in [
        (Method::HEAD, "/tasks", "GET"),
        (Method::PUT, "/tasks", "GET"),
        (Method::POST, "/volumes/x", "GET, DELETE"),
    ] {
        let answer = server.call("alice", method, path).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let mut methods: Vec<&str> = answer.headers[header::ALLOW].to_str().unwrap().split(", ").collect();
        let mut expected: Vec<&str> = allowed.split(", ").collect();
        methods.sort_unstable();
        expected.sort_unstable();
        assert_eq!(methods, expected, "{path}");
    }
    let redirect = server.call("alice", Method::GET, "/tasks/?all_users=true").await;
    assert_eq!(redirect.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(redirect.headers[header::LOCATION], "/tasks?all_users=true");
}

#[tokio::test]
async fn a_host_that_is_not_this_machine_is_forbidden_except_for_probes() {
    let server = TestServer::start().await;
    for (path, status) in [("/tasks", 403), ("/version", 403), ("/healthz", 200), ("/readyz", 200)] {
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, "evil.example")
            .header("x-user", "alice")
            .body(Body::empty());
        assert_eq!(server.send(request.unwrap()).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn every_response_names_the_server_and_the_request() {
    let server = TestServer::start().await;
    for path in ["/version", "/nothing", "/tasks"] {
        let request = request(Method::GET, path)
            .header("x-request-id", "r1")
            .body(Body::empty());
        let answer = server.send(request.unwrap()).await;
        assert_eq!(answer.headers[SERVER_HEADER], env!("CARGO_PKG_VERSION"), "{path}");
        assert_eq!(answer.headers["x-request-id"], "r1", "{path}");
    }
    let version = server.call("alice", Method::GET, "/version").await.ok();
    assert_eq!(version["backend"], "embedded");
    let metrics = server.call("alice", Method::GET, "/metrics").await;
    assert_eq!(metrics.status, StatusCode::OK);
    let openapi = server.call("alice", Method::GET, "/openapi.json").await.ok();
    assert_eq!(
        openapi["components"]["schemas"]["TaskDefinition"]["properties"]["num_nodes"]["maximum"],
        MAX_NODES
    );
}

#[test]
fn only_a_path_of_the_api_is_redirected() {
    for path in ["/tasks", "/tasks/abc", "/tasks/abc/logs", "/volumes/x", "/docs"] {
        assert!(is_known_path(path), "{path}");
    }
    for path in [
        "",
        "//tasks",
        "//evil.example",
        "/tasks//logs",
        "/tasks/a/b",
        "/nothing",
    ] {
        assert!(!is_known_path(path), "{path}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_answered_with_500() {
    let response = catch_panic(async { panic!("planted") }).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
