//! Termination of nodes: all of their processes receive SIGTERM and have the grace period, and their last output is in
//! the log.

use std::time::{Duration, Instant};

use e2e::{Backend, Setting, TaskBuilder, World};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use task::TaskState;

/// A process that saves its state for a second on SIGTERM. The handler is in bash, because an image may have no Python.
/// Below `timeout`, which forwards signals, it receives SIGTERM twice. The handler starts no process substitution: bash
/// 5.2 reads the rest of a handler wrong if another signal arrives meanwhile, and says "unexpected EOF".
const TRAINER: &str = r#"bash -c 'exec 9<> <(:); trap "trap : TERM; echo saving; read -rt 1 -u 9; echo saved; exit 0" TERM; echo up; while :; do read -rt 0.1 -u 9; done'"#;

#[tokio::test(flavor = "multi_thread")]
async fn all_processes_of_a_script_receive_sigterm() {
    let world = World::own(&[]).await;
    assert_sigterm_reaches_all_processes(&world).await;
}

/// As in a Docker container, or on a system without unprivileged namespaces.
#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_all_processes_receive_sigterm() {
    if Backend::Cluster.lacks("its containers have namespaces") {
        return;
    }
    let directory = std::env::temp_dir().join(format!("k8s-cli-e2e-{:016x}", fastrand::u64(..)));
    let world = World::in_directory(&directory, no_namespaces(), &[]).await;
    assert_sigterm_reaches_all_processes(&world).await;
    // A process that a script leaves running when it exits.
    let start = Instant::now();
    let id = world.api.run("exec > >(tee run.log) 2>&1; echo over").await;
    world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(world.api.log_text(&id, "").await, "over\n");
    // It takes 7 s if the server waits for a process that has exited.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// A server that may not create namespaces. Without root it runs in a user namespace.
fn no_namespaces() -> Setting {
    let launcher = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin";
    let launcher = if rustix::process::getuid().is_root() {
        launcher.to_owned()
    } else {
        format!("unshare --user --map-root-user {launcher}")
    };
    Setting {
        launcher: launcher.split(' ').map(str::to_owned).collect(),
        ..Setting::default()
    }
}

/// Terminates tasks whose scripts run a process in different ways.
async fn assert_sigterm_reaches_all_processes(world: &World) {
    let scripts = [
        format!("{TRAINER}\necho next"),
        format!("{TRAINER} &\nwait"),
        format!("timeout 3600 {TRAINER}"),
        // `setsid` does not fork here, because it does not lead a process group, so bash waits for it.
        format!("setsid {TRAINER}; true"),
        format!("( {TRAINER}; true ); true"),
        // A `tee` that ended at once would take what is written afterward with it, and the process that writes it.
        format!("{TRAINER} 2>&1 | tee train.log"),
        format!("exec > >(tee run.log) 2>&1\n{TRAINER}"),
    ];
    let mut ids = Vec::new();
    for script in &scripts {
        ids.push(world.api.run(script).await);
    }
    for id in &ids {
        world.api.wait_for_log(id, |log| log == "up\n").await;
    }
    let deadline = json!({"spec": {"activeDeadlineSeconds": 1}});
    for pod in world.cluster.pods().await {
        let api = world.cluster.api::<Pod>();
        api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&deadline))
            .await
            .unwrap();
    }
    for (id, script) in ids.iter().zip(&scripts) {
        let status = world.api.wait_for(id, TaskState::Failed).await;
        assert_eq!(status.metadata.nodes[0].exit_code, Some(143), "{script}: {status:?}");
        let log = world.api.log_text(id, "").await;
        assert_eq!(log, "up\nsaving\nsaved\n", "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_left_by_a_script_are_terminated() {
    let world = World::own(&[]).await;
    let start = Instant::now();
    let id = world.api.run("sleep 600 & echo over; exit 6").await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(6), "{status:?}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(
        world.api.log_text(&id, "").await,
        "over\n[k8s-cli: the script has exited; terminating the processes it left running]\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn output_written_through_tee_is_complete() {
    let world = World::own(&[]).await;
    let script = "exec > >(tee run.log) 2>&1\nseq 2000\necho the end";
    let mut ids = Vec::new();
    for _ in 0..12 {
        ids.push(world.api.run(script).await);
    }
    for id in &ids {
        world.api.wait_for(id, TaskState::Completed).await;
        let log = world.api.log_text(id, "").await;
        assert_eq!(log.lines().count(), 2001, "{id}");
        assert!(log.ends_with("2000\nthe end\n"), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_bar_is_streamed_while_it_moves() {
    if Backend::Cluster.lacks("the container runtime holds a line back until it ends") {
        return;
    }
    let world = World::own(&[]).await;
    let id = world
        .api
        .run("for i in $(seq 100); do printf '\\r%s %%' $i; sleep 0.1; done; echo; echo done")
        .await;
    world.api.wait_for(&id, TaskState::Running).await;
    let request = world
        .api
        .request(reqwest::Method::GET, &format!("/tasks/{id}/logs?follow=true"));
    let mut stream = request.send().await.unwrap().bytes_stream();
    let mut seen = Vec::new();
    while !seen.windows(4).any(|text| text == b"20 %") {
        seen.extend_from_slice(&stream.next().await.unwrap().unwrap());
    }
    // It continues for several seconds.
    assert!(!seen.windows(5).any(|text| text == b"100 %"));
    while let Some(bytes) = stream.next().await {
        seen.extend_from_slice(&bytes.unwrap());
    }
    let expected: String = (1..=100).map(|number| format!("\r{number} %")).collect();
    assert_eq!(String::from_utf8(seen).unwrap(), format!("{expected}\ndone\n"));
    // Read again, it is one line.
    assert_eq!(world.api.log_text(&id, "?tail=1").await, "done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_unbuffered_by_default() {
    let world = World::own(&[]).await;
    let show = TaskBuilder::new("echo ${PYTHONUNBUFFERED-none}");
    for (task, expected) in [(show.clone(), "1\n"), (show.env("PYTHONUNBUFFERED", ""), "\n")] {
        let id = world.api.submit(&task).await;
        world.api.wait_for(&id, TaskState::Completed).await;
        assert_eq!(world.api.log_text(&id, "").await, expected);
    }
}
