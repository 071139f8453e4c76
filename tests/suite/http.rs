//! HTTP as load balancers, proxies, browsers, and caches use it.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use e2e::{RawAnswer, World, connect, raw, raw_text};
use serde_json::json;
use task::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_begins_with_http_2_is_told_to_use_http_1_1() {
    let world = World::new().await;
    let mut stream = connect(world.api.base());
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("this server speaks HTTP/1.1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_can_check_the_health() {
    let world = World::new().await;
    let base = world.api.base();
    // What `option httpchk` of HAProxy sends.
    let checked = raw_text(base, "OPTIONS / HTTP/1.0\r\n\r\n");
    assert_eq!(checked.status, 200);
    for path in ["/healthz", "/readyz"] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let answer = raw(base, method, path, &[], None);
            assert_eq!(answer.status, 200, "{method} {path}");
            assert_eq!(answer.body.is_empty(), method == "HEAD", "{method} {path}");
            let named = raw_text(base, &format!("{method} {path} HTTP/1.0\r\nHost: 10.0.0.1\r\n\r\n"));
            assert_eq!(named.status, 200, "{method} {path}");
        }
        let answer = raw(base, "DELETE", path, &[], None);
        assert_eq!(answer.status, 405);
        let allow = answer.header("allow").unwrap();
        assert!(
            ["GET", "HEAD", "OPTIONS"].iter().all(|method| allow.contains(method)),
            "{allow}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_host_is_malformed() {
    let world = World::new().await;
    let request = "GET /tasks HTTP/1.1\r\nX-User: alice\r\nConnection: close\r\n\r\n";
    let answer = raw_text(world.api.base(), request);
    assert_eq!(
        (answer.status, answer.json()),
        (400, json!({"detail": "missing Host header"}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_rejected_before_it_is_sent() {
    let world = World::new().await;
    let head = "POST /tasks/submit HTTP/1.1\r\nHost: localhost\r\nX-User: alice\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(raw_text(world.api.base(), head).status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_rejected_with_the_accepted_encoding() {
    let world = World::new().await;
    let headers: [(&str, &[u8]); 3] = [
        ("X-User", b"alice"),
        ("Content-Type", b"application/json"),
        ("Content-Encoding", b"gzip"),
    ];
    let answer = raw(
        world.api.base(),
        "POST",
        "/tasks/submit",
        &headers,
        Some(b"\x1f\x8b\x08"),
    );
    assert_eq!(answer.status, 415);
    assert_eq!(answer.header("accept-encoding"), Some("identity"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("`gzip`"));
}

/// A GET request with one more header.
fn get_with(world: &World, path: &str, name: &str, value: &str) -> RawAnswer {
    let headers = [("X-User", b"alice@example.com".as_slice()), (name, value.as_bytes())];
    raw(world.api.base(), "GET", path, &headers, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_pages_are_compressed_on_request_but_logs_are_not() {
    let world = World::own(&[]).await;
    let id = world.api.run("seq 1000").await;
    world.api.wait_for_log(&id, |log| log.ends_with("1000\n")).await;
    for _ in 0..3 {
        world.api.run("true").await;
    }
    for path in ["/tasks", "/docs/assets/swagger-ui.css", "/openapi.json"] {
        for encoding in ["gzip", "zstd"] {
            let answer = get_with(&world, path, "Accept-Encoding", encoding);
            assert_eq!(
                (answer.status, answer.header("content-encoding")),
                (200, Some(encoding)),
                "{path}"
            );
        }
        let plain = get_with(&world, path, "Accept-Encoding", "identity");
        assert_eq!(plain.header("content-encoding"), None, "{path}");
    }
    let log = get_with(
        &world,
        &format!("/tasks/{id}/logs?follow=false"),
        "Accept-Encoding",
        "gzip, zstd",
    );
    assert_eq!((log.status, log.header("content-encoding")), (200, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_polls_transfers_only_changes() {
    let world = World::own(&[]).await;
    let id = world.api.run("echo done").await;
    world.api.wait_for(&id, TaskState::Completed).await;
    let task = format!("/tasks/{id}");
    for path in ["/tasks", &task, "/volumes", "/history", "/usage", "/nodes", "/gpus"] {
        let path = path.to_owned();
        let first = get_with(&world, &path, "If-None-Match", "\"other\"");
        let tag = first.header("etag").unwrap();
        assert_eq!(first.status, 200, "{path}");
        let second = get_with(&world, &path, "If-None-Match", tag);
        assert_eq!(
            (second.status, second.header("etag"), second.body.len()),
            (304, Some(tag), 0),
            "{path}"
        );
    }
    let list = get_with(&world, "/tasks", "If-None-Match", "\"other\"");
    let _ = world.api.stop(&id).await.ok();
    let changed = get_with(&world, "/tasks", "If-None-Match", list.header("etag").unwrap());
    assert_eq!(changed.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_allowed_origins_can_use_the_api() {
    let world = World::own(&["--cors-origin", "https://tasks.example.com"]).await;
    for (origin, is_allowed) in [("https://tasks.example.com", true), ("https://evil.example", false)] {
        let headers: [(&str, &[u8]); 3] = [
            ("Origin", origin.as_bytes()),
            ("Access-Control-Request-Method", b"POST"),
            ("Access-Control-Request-Headers", b"x-user, content-type, authorization"),
        ];
        for path in ["/tasks/submit", "/version", "/openapi.json"] {
            let preflight = raw(world.api.base(), "OPTIONS", path, &headers, None);
            assert_eq!(
                preflight.header("access-control-allow-origin"),
                is_allowed.then_some(origin),
                "{origin} {path}"
            );
            let allowed = preflight.header("access-control-allow-headers").unwrap();
            assert!(allowed.contains("authorization"), "{allowed}");
        }
        for path in ["/tasks", "/version", "/healthz", "/readyz", "/openapi.json"] {
            let answer = get_with(&world, path, "Origin", origin);
            assert_eq!(
                answer.header("access-control-allow-origin"),
                is_allowed.then_some(origin),
                "{origin} {path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_may_strip_a_prefix() {
    let world = World::own(&["--root-path", "/k8s-cli"]).await;
    let redirect = raw(world.api.base(), "GET", "/tasks/", &[("X-User", b"alice")], None);
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (307, Some("/k8s-cli/tasks"))
    );
    let document = world.api.get("/openapi.json").await.ok();
    assert_eq!(document["servers"], json!([{"url": "/k8s-cli"}]));
    let page = raw(world.api.base(), "GET", "/docs", &[], None);
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("\"docs/assets/") && !page.contains("\"/"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let world = World::own(&["--idle-timeout", "3s"]).await;
    let mut stream = connect(world.api.base());
    let mut ask = || {
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut response = [0; 4096];
        let bytes = stream.read(&mut response).unwrap();
        assert!(response[..bytes].starts_with(b"HTTP/1.1 200"));
    };
    ask();
    std::thread::sleep(Duration::from_secs(2));
    ask();
    let start = Instant::now();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    let elapsed = start.elapsed();
    assert!(
        (Duration::from_millis(2900)..Duration::from_secs(10)).contains(&elapsed),
        "{elapsed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_can_detect_an_incomplete_log() {
    let mut world = World::own(&[]).await;
    let id = world.api.run("echo first; sleep 600").await;
    world.api.wait_for_log(&id, |log| log == "first\n").await;
    let mut stream = connect(world.api.base());
    let request = format!("GET /tasks/{id}/logs HTTP/1.0\r\nX-User: alice@example.com\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"first\n") {
        let mut chunk = [0; 4096];
        let bytes = stream.read(&mut chunk).unwrap();
        assert_ne!(bytes, 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&chunk[..bytes]);
    }
    let server = world.server();
    assert!(server.terminate());
    assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_log_ends_normally_for_http_1_0() {
    let world = World::new().await;
    let id = world.api.run("echo all").await;
    let request = format!("GET /tasks/{id}/logs HTTP/1.0\r\nX-User: alice@example.com\r\nHost: localhost\r\n\r\n");
    assert_eq!(raw_text(world.api.base(), &request).body, b"all\n");
}
