//! Log streams: unchanged bytes of all nodes, from before the first pod exists to the end of the last one.

use std::time::{Duration, Instant};

use e2e::{TaskBuilder, World, eventually};
use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use sha2::{Digest, Sha256};
use task::TaskState;

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A script that writes `count` numbered lines.
fn numbered(count: u32) -> String {
    format!("i=0; while [ $i -lt {count} ]; do echo \"line $i of node $NODE_RANK\"; i=$((i + 1)); done")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_has_the_bytes_that_were_written() {
    let world = World::new().await;
    let script = r"exec 2>&1
        echo; echo; head -c 100000 /dev/zero | tr '\0' x; echo
        printf '\033[31mred\033[0m [/] [bold]x[/bold]\n'; printf '\xff\xfe\x80 \x00 a\rb\tc\x07\n'
        printf 'an error\n' >&2
        printf 'no newline at the end'";
    let id = world.api.run(script).await;
    let mut expected = b"\n\n".to_vec();
    expected.extend(vec![b'x'; 100_000]);
    expected.extend(
        b"\n\x1b[31mred\x1b[0m [/] [bold]x[/bold]\n\xff\xfe\x80 \x00 a\rb\tc\x07\nan error\nno newline at the end",
    );
    let followed = world.api.logs(&id, "").await;
    assert_eq!(
        sha256(&followed),
        sha256(&expected),
        "{}",
        String::from_utf8_lossy(&followed)
    );
    world.api.wait_for(&id, TaskState::Completed).await;
    let read = world.api.logs(&id, "?follow=false").await;
    assert_eq!(sha256(&read), sha256(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_random_bytes_keep_their_checksum() {
    let world = World::new().await;
    // Without `\r`, because containerd turns `\r\n` into `\n` before any client sees it.
    let script =
        "head -c 1000000 /dev/urandom | tr -d '\\r' >/tmp/bytes; sha256sum </tmp/bytes >/data/sum; cat /tmp/bytes";
    world.api.create_small_volume("sum").await;
    let id = world.api.submit(&TaskBuilder::new(script).volume("/data", "sum")).await;
    let seen = world.api.logs(&id, "").await;
    let reader = TaskBuilder::new("cat /data/sum").volume("/data", "sum");
    let id = world.api.submit(&reader).await;
    let sum = world.api.log_text(&id, "").await;
    assert_eq!(format!("{}  -\n", sha256(&seen)), sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_followed_right_after_the_submit_are_complete() {
    let world = World::new().await;
    let logs = join_all((0..10).map(|index| {
        let api = world.api.clone();
        async move {
            let id = api.run(&format!("echo first {index}; echo last {index}")).await;
            (index, api.log_text(&id, "").await)
        }
    }))
    .await;
    for (index, log) in logs {
        assert_eq!(log, format!("first {index}\nlast {index}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_has_the_lines_of_all_nodes_in_order() {
    let world = World::new().await;
    let id = world.api.submit(&TaskBuilder::new(numbered(2000)).nodes(3)).await;
    let log = world.api.log_text(&id, "").await;
    assert_in_order(&log, 3, 2000);
    // Read again by followers that come after the end.
    for query in ["", "?follow=false"] {
        assert_in_order(&world.api.log_text(&id, query).await, 3, 2000);
    }
}

/// Checks that the log has the lines of each node once and in order, and nothing else.
pub(crate) fn assert_in_order(log: &str, nodes: usize, count: usize) {
    let mut next = vec![0_usize; nodes];
    for line in log.lines() {
        let (prefix, text) = line.split_once(" | ").unwrap_or_else(|| panic!("no prefix: {line:?}"));
        let node: usize = prefix.strip_prefix("node-").unwrap().parse().unwrap();
        assert_eq!(text, format!("line {} of node {node}", next[node]));
        next[node] += 1;
    }
    assert_eq!(next, vec![count; nodes]);
}

/// CPU time of a process, in hundredths of a second (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
fn cpu_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    ticks(11) + ticks(12)
}

#[tokio::test(flavor = "multi_thread")]
async fn following_an_idle_log_uses_no_cpu() {
    let mut world = World::own(&[]).await;
    let id = world.api.run("echo here; sleep 600").await;
    let mut stream = world.api.follow(&id).await.bytes_stream();
    assert_eq!(stream.next().await.unwrap().unwrap(), "here\n");
    let pid = world.server().pid();
    let before = cpu_time(pid);
    let quiet = tokio::time::timeout(Duration::from_secs(3), stream.next()).await;
    assert!(quiet.is_err(), "the task must not write anything");
    let spent = cpu_time(pid) - before;
    println!("3 s of following took {spent}0 ms of CPU");
    assert!(spent < 15, "{spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prefix_depends_on_the_task_and_not_on_its_pods() {
    let world = World::own(&["--archive", "none"]).await;
    let id = world.api.submit(&TaskBuilder::new("echo here").nodes(2)).await;
    let log = world.api.log_text(&id, "").await;
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["node-0 | here", "node-1 | here"]);
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    let pod = status.metadata.nodes[1].pod_name.as_deref().unwrap();
    let pods = world.cluster.api::<Pod>();
    pods.delete(pod, &DeleteParams::default()).await.unwrap();
    // Only one pod is left.
    world.api.wait_for_log(&id, |log| log == "node-0 | here\n").await;
    let single = world.api.run("echo here").await;
    assert_eq!(world.api.log_text(&single, "").await, "here\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_stream_while_the_task_runs() {
    let world = World::new().await;
    let id = world.api.run("echo one; sleep 3; echo two; sleep 600").await;
    let mut stream = world.api.follow(&id).await.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    let time = Instant::now();
    assert_eq!(&first[..], b"one\n");
    let second = stream.next().await.unwrap().unwrap();
    assert_eq!(&second[..], b"two\n");
    assert!(time.elapsed() > Duration::from_secs(1), "the lines came together");
    assert_eq!(world.api.stop(&id).await.status, 200);
    assert!(
        stream.next().await.is_none(),
        "the stream ends when the task is stopped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_select_a_part_of_the_log() {
    let world = World::new().await;
    let task = TaskBuilder::new("echo old; sleep 5; echo a; echo b; printf c").nodes(2);
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Completed).await;
    let node = world.api.log_text(&id, "?node=1&follow=false").await;
    assert_eq!(node, "node-1 | old\nnode-1 | a\nnode-1 | b\nnode-1 | c");
    assert_eq!(
        world.api.log_text(&id, "?node=1&tail=2").await,
        "node-1 | b\nnode-1 | c"
    );
    assert_eq!(world.api.log_text(&id, "?node=0&tail=0").await, "");
    let stamped = world.api.log_text(&id, "?node=0&timestamps=true").await;
    let times: Vec<&str> = stamped.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert!(
        times.iter().all(|time| time.ends_with('Z') && time.len() == 30),
        "{stamped}"
    );
    assert_eq!(
        world.api.log_text(&id, &format!("?node=0&since={}", times[1])).await,
        "node-0 | a\nnode-0 | b\nnode-0 | c"
    );
    assert_eq!(world.api.log_text(&id, "?since=1h&node=0&tail=1").await, "node-0 | c");
    let detail = world.api.get(&format!("/tasks/{id}/logs?node=2")).await.error(404);
    assert_eq!(
        detail,
        format!("Task {id} has no node 2; it has 2 node(s), numbered from 0")
    );
    for (query, path) in [
        ("?node=-1", "query.node"),
        ("?tail=x", "query.tail"),
        ("?since=yesterday", "query.since"),
        ("?follow=maybe", "query.follow"),
    ] {
        assert_eq!(
            world.api.get(&format!("/tasks/{id}/logs{query}")).await.invalid().0,
            path
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_without_follow_ends_while_the_task_runs() {
    let world = World::new().await;
    let id = world.api.run("echo now; sleep 600").await;
    world.api.wait_for_log(&id, |log| log == "now\n").await;
    let pending = world.api.submit(&TaskBuilder::new("true").cpus("1000000")).await;
    assert_eq!(world.api.log_text(&pending, "?follow=false").await, "");
    for id in [id, pending] {
        assert_eq!(world.api.stop(&id).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_share_upstream_streams_until_the_last_leaves() {
    // The archive is a follower, too.
    let world = World::own(&["--archive", "none"]).await;
    let id = world.api.submit(&TaskBuilder::new("echo up; sleep 600").nodes(2)).await;
    let mut followers = Vec::new();
    for _ in 0..20 {
        let mut stream = world.api.follow(&id).await.bytes_stream();
        stream.next().await.unwrap().unwrap();
        followers.push(stream);
    }
    let streams = async |expected: f64| {
        eventually(
            Duration::from_secs(20),
            &format!("{expected} upstream streams"),
            async || {
                (crate::operations::metric(&world.api, "k8s_cli_log_streams").await == Some(expected)).then_some(())
            },
        )
        .await;
    };
    streams(2.0).await;
    drop(followers);
    streams(0.0).await;
    assert_eq!(
        crate::operations::metric(&world.api, "k8s_cli_log_followers").await,
        Some(0.0)
    );
}
