//! The engine is killed at random times: nothing acknowledged is lost, and nothing is left behind.

mod uploads;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{Api, Backend, TaskBuilder, World, eventually, from_environment, shims};
use futures::future::join_all;
use rusqlite::Connection;
use task::TaskState;

/// Number of lines that each task writes.
const LINES: usize = 40;

/// Number of concurrent submits.
const WORKERS: usize = 4;

/// Submits tasks until `done`, and returns the acknowledged IDs.
async fn submit_until(api: Api, worker: usize, done: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let script = format!("for i in $(seq {LINES}); do echo line $i; sleep 0.02; done; exit $((NODE_RANK * 0))");
        let key = format!("{worker}-{}", acknowledged.len());
        let nodes = if acknowledged.len().is_multiple_of(2) { 1 } else { 2 };
        let task = TaskBuilder::new(script).nodes(nodes);
        let id = eventually(Duration::from_secs(60), "a submit to be acknowledged", async || {
            let answer = api.submit_once(&key, &task).await?;
            (answer.status == 200).then(|| answer.task_id())
        })
        .await;
        acknowledged.push(id);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..600))).await;
    }
    acknowledged
}

/// The result of the integrity check of the database.
fn integrity(state: &Path) -> String {
    let connection = Connection::open(state.join("state.db")).unwrap();
    connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap()
}

/// Checks that the log has each line of each node once and in order.
fn assert_complete(id: &str, log: &str) {
    let mut nodes: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in log.lines() {
        let (node, text) = line.split_once(" | ").unwrap_or(("", line));
        nodes.entry(node).or_default().push(text);
    }
    let expected: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
    assert!(!nodes.is_empty(), "{id} has no log");
    for (node, lines) in nodes {
        assert_eq!(lines, expected, "{id} {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_engine_loses_no_task_log_line_or_process() {
    if Backend::Cluster.lacks("its state is outside of the server's process") {
        return;
    }
    let kills = from_environment("K8S_CLI_E2E_CRASHES", 15);
    let mut world = World::own(&[]).await;
    let state = world.state_dir().unwrap().to_owned();
    let done = AtomicBool::new(false);
    let api = world.api.clone();
    let submitting = join_all((0..WORKERS).map(|worker| submit_until(api.clone(), worker, &done)));
    let killing = async {
        let mut running = 0;
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..700))).await;
            world.server().kill();
            running += shims(&state).len();
            assert_eq!(integrity(&state), "ok");
            world.server().restart();
        }
        done.store(true, Ordering::Relaxed);
        running
    };
    let (acknowledged, running) = tokio::join!(submitting, killing);
    let ids: Vec<String> = acknowledged.into_iter().flatten().collect();
    println!(
        "{kills} kills, {} tasks acknowledged, {running} containers continued through a kill",
        ids.len()
    );
    assert!(running > 0 && !ids.is_empty());
    for id in &ids {
        world.api.wait_for(id, TaskState::Completed).await;
        assert_complete(id, &world.api.log_text(id, "").await);
    }
    let mut listed = world.api.task_ids().await;
    let mut expected = ids.clone();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    eventually(Duration::from_secs(20), "all shims to end", async || {
        shims(&state).is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_kept_while_no_server_runs() {
    if Backend::Cluster.lacks("the kubelet reports exit codes") {
        return;
    }
    let mut world = World::own(&[]).await;
    let state = world.state_dir().unwrap().to_owned();
    let good = world.api.run("sleep 1; echo late").await;
    let bad = world.api.run("sleep 1; exit 7").await;
    let lost = world.api.run("sleep 600").await;
    let long = world.api.run("sleep 4; echo on").await;
    for id in [&good, &bad, &lost, &long] {
        world.api.wait_for(id, TaskState::Running).await;
    }
    let before = world.api.status(&lost).await;
    world.server().kill();
    kill_shim_of(&state, before.metadata.nodes[0].pod_name.as_deref().unwrap());
    eventually(Duration::from_secs(20), "the short tasks to end", async || {
        (shims(&state).len() == 1).then_some(())
    })
    .await;
    world.server().restart();
    world.api.wait_for(&good, TaskState::Completed).await;
    assert_eq!(world.api.log_text(&good, "").await, "late\n");
    let status = world.api.wait_for(&bad, TaskState::Failed).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(7));
    let status = world.api.wait_for(&lost, TaskState::Failed).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(137), "{status:?}");
    world.api.wait_for(&long, TaskState::Completed).await;
    assert_eq!(world.api.log_text(&long, "").await, "on\n");
}

/// Kills the shim of a pod, as an out-of-memory killer might.
fn kill_shim_of(state: &Path, pod: &str) {
    for entry in std::fs::read_dir(state.join("pods")).unwrap().flatten() {
        let order = std::fs::read_to_string(entry.path().join("order.json")).unwrap_or_default();
        if order.contains(&format!("\"hostname\":\"{}\"", &pod[..pod.len().min(63)])) {
            let text = std::fs::read_to_string(entry.path().join("started.json")).unwrap();
            let started: serde_json::Value = serde_json::from_str(&text).unwrap();
            let pid = started["supervisor"].to_string();
            assert!(
                std::process::Command::new("kill")
                    .args(["-KILL", &pid])
                    .status()
                    .unwrap()
                    .success()
            );
            return;
        }
    }
    panic!("no directory of {pod}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_has_one_server() {
    if Backend::Cluster.lacks("it has no state directory") {
        return;
    }
    let world = World::own(&[]).await;
    let state = world.state_dir().unwrap().to_string_lossy().into_owned();
    let output = e2e::Server::command(&["--backend", "embedded", "--state-dir", &state])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("is in use by another server"),
        "{text}"
    );
}
