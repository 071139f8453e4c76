//! Too much at once is refused with a status, never with silence.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::{World, raw};
use futures::StreamExt;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new().await;
    let headers: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("Content-Type", b"application/json")];
    let body = format!("{{\"run\": \"{}\"}}", "x".repeat(5 * 1024 * 1024));
    let answer = raw(
        world.api.base(),
        "POST",
        "/tasks/submit",
        &headers,
        Some(body.as_bytes()),
    );
    assert_eq!(answer.status, 413);
    assert!(answer.json()["detail"].as_str().unwrap().contains("bytes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let world = World::new().await;
    let answer = raw(world.api.base(), "GET", "/", &[("X-Large", &vec![b'x'; 300_000])], None);
    assert_eq!(answer.status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_holds_nobody() {
    let world = World::new().await;
    let address = world.api.base().strip_prefix("http://").unwrap().to_owned();
    let mut idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /tasks HTTP/1.1\r\nX-Us").unwrap();
    }
    assert_eq!(world.api.get("/tasks").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_allowed_are_refused() {
    let world = World::own(&["--max-streams", "3", "--max-streams-per-user", "2"]).await;
    let id = world.api.run("echo up; sleep 600").await;
    let bob = world.api.as_user("bob");
    let bobs = bob.run("echo up; sleep 600").await;
    let open = async |api: &e2e::Api, id: &str| {
        api.request(reqwest::Method::GET, &format!("/tasks/{id}/logs"))
            .send()
            .await
            .unwrap()
    };
    let mut streams = Vec::new();
    for (api, id) in [(&world.api, &id), (&world.api, &id)] {
        streams.push(open(api, id).await);
    }
    let refused = open(&world.api, &id).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    streams.push(open(&bob, &bobs).await);
    assert_eq!(open(&bob, &bobs).await.status(), 503);
    // What is closed can be opened again.
    let mut first = streams.remove(0).bytes_stream();
    first.next().await.unwrap().unwrap();
    drop(first);
    e2e::eventually(Duration::from_secs(10), "a stream to be free", async || {
        (open(&world.api, &id).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_are_told_so() {
    let world = World::own(&["--max-connections", "5"]).await;
    let address = world.api.base().strip_prefix("http://").unwrap().to_owned();
    let _idle: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut refused = TcpStream::connect(&address).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_nodes_than_allowed_are_refused() {
    let world = World::own(&["--max-nodes", "2"]).await;
    let answer = world
        .api
        .post("/tasks/submit", &json!({"run": "true", "num_nodes": 3}))
        .await;
    assert_eq!(answer.invalid().1, "less_than_equal");
}
