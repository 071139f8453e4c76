//! Requests above a limit are rejected with a status.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::{RawAnswer, TaskBuilder, World, as_another_account, raw};
use futures::StreamExt;
use serde_json::json;

fn submit(world: &World, headers: &[(&str, &[u8])], body: &str) -> RawAnswer {
    let path = "/tasks/submit";
    raw(world.api.base(), "POST", path, headers, Some(body.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_rejected() {
    let world = World::new().await;
    let headers: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("Content-Type", b"application/json")];
    let body = format!("{{\"run\": \"{}\"}}", "x".repeat(5 * 1024 * 1024));
    let answer = submit(&world, &headers, &body);
    assert_eq!(answer.status, 413);
    assert!(answer.json()["detail"].as_str().unwrap().contains("bytes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_are_rejected() {
    let world = World::new().await;
    let answer = raw(world.api.base(), "GET", "/", &[("X-Large", &vec![b'x'; 300_000])], None);
    assert_eq!(answer.status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_do_not_block_others() {
    let world = World::new().await;
    let address = world.api.base().strip_prefix("http://").unwrap().to_owned();
    let mut idle: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /tasks HTTP/1.1\r\nX-Us").unwrap();
    }
    assert_eq!(world.api.get("/tasks").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_above_the_limit_are_rejected() {
    let world = World::own(&["--max-streams", "3", "--max-streams-per-user", "2"]).await;
    let id = world.api.run("echo up; sleep 600").await;
    let bob = world.api.as_user("bob");
    let bobs = bob.run("echo up; sleep 600").await;
    let mut streams = Vec::new();
    for (api, id) in [(&world.api, &id), (&world.api, &id)] {
        streams.push(api.follow(id).await);
    }
    let refused = world.api.follow(&id).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    streams.push(bob.follow(&bobs).await);
    assert_eq!(bob.follow(&bobs).await.status(), 503);
    // A closed stream makes room for a new one.
    let mut first = streams.remove(0).bytes_stream();
    first.next().await.unwrap().unwrap();
    drop(first);
    e2e::eventually(Duration::from_secs(10), "room for a stream", async || {
        (world.api.follow(&id).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_rejected() {
    let world = World::own(&["--max-connections", "5"]).await;
    let address = world.api.base().strip_prefix("http://").unwrap().to_owned();
    let _idle: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut refused = TcpStream::connect(&address).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let probed = raw(world.api.base(), "GET", "/healthz", &[], None);
    assert_eq!(
        (probed.status, &probed.json()["status"]),
        (200, &json!("ok")),
        "probes must work under any load"
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_cannot_use_all_connections() {
    let world = World::own(&[
        "--allow-local-users",
        "--max-connections",
        "10",
        "--max-connections-per-client",
        "5",
    ])
    .await;
    let address = world.api.base().strip_prefix("http://").unwrap().to_owned();
    let open = |_| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        // A connection counts once it has a response.
        stream.read_exact(&mut [0; 12]).unwrap();
        stream
    };
    let idle: Vec<TcpStream> = (0..5).map(open).collect();
    let mut refused = TcpStream::connect(&address).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    // Another account of this machine is another client.
    let base = world.api.base().to_owned();
    if let Some(answer) = as_another_account(move || raw(&base, "GET", "/healthz", &[], None)) {
        assert_eq!(answer.status, 200);
    }
    drop(idle);
}

/// Bodies of which only the beginning is sent.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_bodies_do_not_block_other_users() {
    let world = World::own(&["--allow-local-users"]).await;
    let address = world.api.base().strip_prefix("http://").unwrap().to_owned();
    let attack = move || -> Vec<TcpStream> {
        let send = |_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let head = "POST /tasks/submit HTTP/1.1\r\nHost: localhost\r\nX-User: mallory\r\n\
                        Content-Type: application/json\r\nContent-Length: 4194304\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&[b' '; 17 * 1024]).unwrap();
            stream
        };
        (0..20).map(send).collect()
    };
    let Some(mut stalled) = as_another_account(attack) else {
        return;
    };
    let body = json!({"run": "true", "envs": {"LARGE": "x".repeat(100_000)}}).to_string();
    let headers: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("Content-Type", b"application/json")];
    let start = std::time::Instant::now();
    let path = "/tasks/submit?dry_run=true";
    let answer = raw(world.api.base(), "POST", path, &headers, Some(body.as_bytes()));
    assert_eq!(answer.status, 200);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // Those with a share of the memory get 408, and the others 503.
    let mut statuses = Vec::new();
    for stream in &mut stalled {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).unwrap();
        statuses.push(String::from_utf8_lossy(&head[9..]).into_owned());
    }
    let count = |status: &str| statuses.iter().filter(|found| *found == status).count();
    assert!(
        count("408") >= 2 && count("408") + count("503") == statuses.len(),
        "{statuses:?}"
    );
}

/// The maximum number of values that are validated, several times concurrently.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_bodies_do_not_delay_probes() {
    let world = World::own(&[]).await;
    let wrong = vec!["-1"; 49_000].join(",");
    let body = format!("{{\"run\": \"true\", \"resources\": {{\"ports\": [{wrong}]}}}}");
    let base = world.api.base().to_owned();
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (base, body) = (base.clone(), body.clone());
            std::thread::spawn(move || {
                let headers: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("Content-Type", b"application/json")];
                raw(&base, "POST", "/tasks/submit", &headers, Some(body.as_bytes()))
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while senders.iter().any(|sender| !sender.is_finished()) {
        let start = std::time::Instant::now();
        assert_eq!(raw(&base, "GET", "/healthz", &[], None).status, 200);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    for sender in senders {
        let answer = sender.join().unwrap();
        assert_eq!(answer.status, 422);
        assert!(answer.json()["detail"].as_array().unwrap().len() <= 101);
        assert!(answer.body.len() < 500_000, "{}", answer.body.len());
    }
}

/// Bodies that need much more memory as values, or in the response.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_many_invalid_values_use_little_memory() {
    let world = World::own(&[]).await;
    let json: (&str, &[u8]) = ("Content-Type", b"application/json");
    let peak = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or_default()
    };
    let pid = world.server.as_ref().unwrap().pid();
    let before = peak(pid);
    let many = |item: &str, count: usize| vec![item; count].join(",");
    for body in [
        format!(
            "{{\"envs\": {{{}}}}}",
            (0..300_000)
                .map(|at| format!("\"{at}\":[]"))
                .collect::<Vec<_>>()
                .join(",")
        ),
        format!("[{}]", many("[]", 1_300_000)),
        format!("{{\"resources\": {{\"ports\": [{}]}}}}", many("-1", 1_300_000)),
        (0..300_000).fold("{".to_owned(), |text, at| text + &format!("\"k{at}\":0,")) + "\"run\": 1}",
    ] {
        for headers in [vec![json], vec![json, ("X-User", b"alice".as_slice())]] {
            let start = std::time::Instant::now();
            let answer = submit(&world, &headers, &body);
            assert_eq!(answer.status, 422);
            assert!(answer.body.len() < 500_000, "{}", answer.body.len());
            assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        }
    }
    let grown = peak(pid) - before;
    assert!(grown < 100 * 1024, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_many_large_nodes_is_truncated() {
    let world = World::new().await;
    // The maximum size that is copied to each node.
    let envs: serde_json::Map<_, _> = (0..4).map(|at| (format!("V{at}"), json!("x".repeat(1000)))).collect();
    let run = format!("true #{}", "x".repeat(3000));
    let body = json!({"run": run, "num_nodes": 200, "envs": envs}).to_string();
    let headers: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("Content-Type", b"application/json")];
    let path = "/tasks/submit?dry_run=true";
    let answer = raw(world.api.base(), "POST", path, &headers, Some(body.as_bytes()));
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert!(answer.body.len() < 4 << 20, "{}", answer.body.len());
    let warning = answer.header("warning").unwrap();
    assert!(warning.contains("more nodes are omitted"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_above_the_limit_are_rejected() {
    let world = World::own(&["--max-nodes", "2"]).await;
    let answer = world.api.try_submit(&TaskBuilder::new("true").nodes(3)).await;
    assert_eq!(answer.invalid().1, "less_than_equal");
}
