//! The nodes of a task start together, know each other, and end together.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use e2e::{Backend, TaskBuilder, World, eventually, small_task};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

const MINUTE: Duration = Duration::from_secs(60);

/// Returns the text after `word` in the lines of each node, by rank.
pub(crate) fn by_rank(log: &str, word: &str) -> HashMap<u32, String> {
    log.lines()
        .filter_map(|line| {
            let (rank, text) = line.strip_prefix("node-")?.split_once(" | ")?;
            Some((rank.parse().ok()?, text.strip_prefix(word)?.trim().to_owned()))
        })
        .collect()
}

pub(crate) fn seconds(times: &HashMap<u32, String>) -> Vec<f64> {
    times.values().map(|time| time.parse().unwrap()).collect()
}

/// Returns the name of the pod of a rank.
fn pod_of(status: &TaskStatus, rank: usize) -> &str {
    status.metadata.nodes[rank].pod_name.as_deref().unwrap()
}

/// Number of nodes that are scheduled.
pub(crate) fn scheduled_nodes(status: &TaskStatus) -> usize {
    let nodes = status.metadata.nodes.iter();
    nodes.filter(|node| node.node_name.is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_has_the_variables_of_a_gang() {
    let world = World::new().await;
    let run = "echo \"$SKYPILOT_NODE_RANK $SKYPILOT_NUM_NODES $SKYPILOT_NUM_GPUS_PER_NODE $SKYPILOT_NODE_IPS\"; \
               echo \"$SKYPILOT_SETUP_NODE_RANK $SKYPILOT_SETUP_NODE_IPS $MASTER_ADDR $MASTER_PORT ${RANK-none} $MINE\"";
    let task = TaskBuilder::new(run).env("MINE", "m").env("SKYPILOT_NODE_RANK", "7");
    let id = world.api.submit(&task).await;
    let log = world.api.log_text(&id, "").await;
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    let ip = status.metadata.nodes[0].pod_ip.as_deref().unwrap();
    assert_eq!(log, format!("0 1 0 {ip}\n0 {ip} {ip} 29500 none m\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_each_other_by_name() {
    let world = World::new().await;
    let hosts = r#"hosts=$'\n'$(</etc/hosts); hosts=${hosts//$'\t'/ }"#;
    let run = format!(
        r#"{hosts}; for rank in 0 1; do
          IFS=$'\n' read -rd '' -a ips <<<"$SKYPILOT_NODE_IPS"
          [[ $hosts = *$'\n'"${{ips[rank]}} node-$rank"* ]] && echo "knows $rank" || echo "$hosts"
        done"#
    );
    let id = world.api.submit(&small_task(&run).nodes(2)).await;
    let log = world.api.log_text(&id, "").await;
    let known: Vec<&str> = log.lines().filter(|line| line.contains("knows")).collect();
    assert_eq!(known.len(), 4, "{log}");
    // A node of its own has its own name.
    let run = format!("{hosts}; [[ $hosts = *\" $HOSTNAME\"* ]] && echo named || echo \"$HOSTNAME $hosts\"");
    let id = world.api.submit(&small_task(&run)).await;
    assert_eq!(world.api.log_text(&id, "").await, "named\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_scripts_and_variables_are_stored_once_per_gang() {
    let world = World::new().await;
    let run = format!(
        "{}\nnames=(\"${{!V@}}\"); echo \"is $MINE,$NODE_RANK,${{#names[@]}},${{#V99}}\"; sleep 3",
        "# a long script".repeat(1000)
    );
    let mut task = TaskBuilder::new(run)
        .nodes(2)
        .env("MINE", "$(HOME) $$ $NOT")
        .env("NODE_RANK", "7");
    for index in 0..100 {
        task = task.env(&format!("V{index}"), "x".repeat(1000));
    }
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Running).await;
    for job in world.cluster.jobs(&id).await {
        let bytes = serde_json::to_vec(&job.spec).unwrap().len();
        assert!(bytes < 12_000, "the spec of each Job has {bytes} bytes");
    }
    let log = world.api.log_text(&id, "").await;
    let is = by_rank(&log, "is ");
    assert_eq!(is[&0], "$(HOME) $$ $NOT,0,100,1000");
    assert_eq!(is[&1], "$(HOME) $$ $NOT,1,100,1000");
    world.api.wait_for(&id, TaskState::Completed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_the_task_override_those_of_the_gang() {
    let world = World::new().await;
    let task = TaskBuilder::new("echo \"is $MASTER_PORT,$WORLD_SIZE,$RANK\"")
        .nodes(2)
        .env("MASTER_PORT", "1234")
        .env("WORLD_SIZE", "");
    let id = world.api.submit(&task).await;
    let log = world.api.log_text(&id, "").await;
    assert_eq!(by_rank(&log, "is ")[&1], "1234,,1");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_runs_before_the_slowest_setup_ends() {
    let world = World::new().await;
    let task = small_task("echo \"ran $EPOCHREALTIME\"; echo \"seen $SEEN\"")
        .nodes(4)
        .setup("sleep $((NODE_RANK * 2)); export SEEN=$NODE_RANK; echo \"set up $EPOCHREALTIME\"");
    let id = world.api.submit(&task).await;
    let log = world.api.log_text(&id, "").await;
    world.api.wait_for(&id, TaskState::Completed).await;
    let slowest = seconds(&by_rank(&log, "set up ")).into_iter().fold(f64::MIN, f64::max);
    let ran = seconds(&by_rank(&log, "ran "));
    assert_eq!(ran.len(), 4, "{log}");
    let first = ran.into_iter().fold(f64::MAX, f64::min);
    println!(
        "the first ran {:.0} ms after the slowest setup",
        (first - slowest) * 1000.0
    );
    assert!(first >= slowest, "{log}");
    assert_eq!(by_rank(&log, "seen ")[&3], "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_node_runs_if_the_setup_of_one_fails() {
    let world = World::new().await;
    let task = small_task("echo ran").nodes(3).setup("echo setup; [ $NODE_RANK != 1 ]");
    let id = world.api.submit(&task).await;
    let log = world.api.log_text(&id, "").await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert!(!log.contains("ran"), "{log}");
    assert_eq!(by_rank(&log, "setup").len(), 3, "{log}");
    let message = status.message.unwrap();
    assert!(
        message.starts_with("node 1: ") && message.contains("setup failed with exit code 1"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_ends_its_gang() {
    let world = World::new().await;
    let id = world.api.submit(&small_task("echo here; sleep 3600").nodes(3)).await;
    let status = world.api.wait_for(&id, TaskState::Running).await;
    let pod = pod_of(&status, 1);
    world
        .cluster
        .api::<Pod>()
        .delete(pod, &DeleteParams::default())
        .await
        .unwrap();
    let status = world.api.wait_for_nodes(&id, TaskState::Failed).await;
    assert!(status.message.as_deref().unwrap().starts_with("node 1: "), "{status:?}");
    assert_ne!(status.metadata.nodes[1].reason.as_deref(), Some("NodeFailed"));
    assert_eq!(status.metadata.nodes[0].reason.as_deref(), Some("NodeFailed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unschedulable_node_keeps_its_gang_pending() {
    let world = World::new().await;
    // One fits, two do not.
    let most = world.cluster.largest_node_millicpus().await * 6 / 10;
    let task = TaskBuilder::new("echo ran").nodes(2).cpus(format!("{most}m"));
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for_reason(&id, "Unschedulable").await;
    assert_eq!(status.status, TaskState::Pending);
    let is_waiting = |status: &TaskStatus| {
        let mut nodes = status.metadata.nodes.iter();
        nodes.any(|node| node.reason.as_deref() == Some("WaitingForNodes"))
    };
    let waiting = world
        .api
        .wait_for_status(&id, MINUTE, "the other node to run", is_waiting)
        .await;
    assert_eq!(waiting.reason.as_deref(), Some("Unschedulable"), "{waiting:?}");
    let log = world.api.log_text(&id, "?follow=false").await;
    assert_eq!(log, "", "no node must run");
}

/// The server is killed while gangs start, run their setup, fail, and lose a pod.
#[tokio::test(flavor = "multi_thread")]
async fn killed_servers_do_not_change_the_outcome_of_gangs() {
    let kills = e2e::from_environment("K8S_CLI_E2E_GANG_KILLS", 8);
    let mut world = World::own(&[]).await;
    let good = small_task("echo \"ran $EPOCHREALTIME\"")
        .nodes(3)
        .setup("sleep 0.$NODE_RANK; echo \"set up $EPOCHREALTIME\"");
    let bad = small_task("sleep 0.5; [ $NODE_RANK != 1 ] || exit 3; sleep 3600").nodes(3);
    let sleeps = small_task("sleep 3600").nodes(3);
    let mut done = 0;
    while done < kills {
        let deleted = world.api.submit(&sleeps).await;
        let status = world.api.wait_for(&deleted, TaskState::Running).await;
        let pod = pod_of(&status, 1);
        let (good, bad) = (world.api.submit(&good).await, world.api.submit(&bad).await);
        let pods = world.cluster.api::<Pod>();
        pods.delete(pod, &DeleteParams::default()).await.unwrap();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..700))).await;
            world.server().kill();
            world.server().restart();
            done += 1;
        }
        world.api.wait_for(&good, TaskState::Completed).await;
        let status = world.api.wait_for(&bad, TaskState::Failed).await;
        assert_eq!(
            status.message.as_deref(),
            Some("node 1: the container exited with code 3")
        );
        world.api.wait_for_nodes(&bad, TaskState::Failed).await;
        let status = world.api.wait_for_nodes(&deleted, TaskState::Failed).await;
        assert!(status.message.as_deref().unwrap().starts_with("node 1: "), "{status:?}");
        assert_eq!(
            status.metadata.nodes[0].reason.as_deref(),
            Some("NodeFailed"),
            "{status:?}"
        );
        let log = world.api.log_text(&good, "").await;
        let slowest = seconds(&by_rank(&log, "set up ")).into_iter().fold(f64::MIN, f64::max);
        let first = seconds(&by_rank(&log, "ran ")).into_iter().fold(f64::MAX, f64::min);
        assert!(first >= slowest && by_rank(&log, "ran ").len() == 3, "{log}");
    }
    println!("{done} kills");
}

/// A script whose attempts exit with these codes, in order. It counts them in a volume.
fn attempts(codes: &str) -> String {
    format!(
        "n=$(cat /data/n 2>/dev/null || echo 0); echo $((n + 1)) >/data/n\n\
         echo \"attempt $n\"; codes=({codes}); exit ${{codes[n]}}"
    )
}

async fn with_recovery(world: &World, recovery: Value, run: &str) -> String {
    world.api.create_small_volume("memory").await;
    let task = TaskBuilder::new(run).volume("/data", "memory").recovery(recovery);
    world.api.submit(&task).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_is_retried_up_to_its_limit() {
    let world = World::new().await;
    let id = with_recovery(&world, json!({"max_restarts_on_errors": 2}), &attempts("1 1 0")).await;
    let log = world.api.log_text(&id, "").await;
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(log, "attempt 0\nattempt-2 | attempt 1\nattempt-3 | attempt 2\n");
    assert_eq!(status.metadata.nodes[0].attempt, 3);
    let before = &status.metadata.attempts;
    assert_eq!(before.len(), 2, "{status:?}");
    for (attempt, number) in before.iter().zip(1..) {
        assert_eq!((attempt.attempt, attempt.reason.as_deref()), (number, Some("Error")));
        assert_eq!(attempt.message.as_deref(), Some("the container exited with code 1"));
        assert!(
            attempt.started_at.is_some() && attempt.finished_at.is_some(),
            "{attempt:?}"
        );
    }
    assert_eq!(world.api.log_text(&id, "?follow=false").await, log);
    assert_eq!(world.api.stop(&id).await.status, 200);
    eventually(MINUTE, "all Jobs to be deleted", async || {
        world.cluster.jobs(&id).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_exceeds_its_retries_fails() {
    let world = World::new().await;
    let id = with_recovery(
        &world,
        json!({"max_restarts_on_errors": 1, "recover_on_exit_codes": [9]}),
        &attempts("9 1 9 2 0"),
    )
    .await;
    let log = world.api.log_text(&id, "").await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    // Exit code 9 does not count, so the second other failure is the last one.
    assert_eq!(log.lines().count(), 4, "{log}");
    assert_eq!(status.message.as_deref(), Some("the container exited with code 2"));
    assert_eq!(status.metadata.nodes[0].attempt, 4);
}

async fn pods_of(world: &World, id: &str) -> Vec<Pod> {
    let pods = world.cluster.pods().await.into_iter();
    let is_of_task = |pod: &Pod| pod.labels().get("task-id").is_some_and(|of| of == id);
    pods.filter(is_of_task).collect()
}

/// Its pod is deleted with the machine that it ran on, or by somebody who tidies up.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_has_ended_stays_so_when_its_pods_are_deleted() {
    let world = World::new().await;
    let recovery = || json!({"max_restarts_on_errors": 0});
    let tasks = [
        (small_task("exit 7").recovery(recovery()), "Error", Some(7)),
        (small_task("exit 7"), "Error", Some(7)),
        (
            small_task("exit $NODE_RANK; sleep 600").nodes(2).recovery(recovery()),
            "Error",
            Some(1),
        ),
        (
            small_task("sleep 600").recovery(recovery()).max_duration("1s"),
            "DeadlineExceeded",
            None,
        ),
    ];
    for (task, reason, exit_code) in tasks {
        let id = world.api.submit(&task).await;
        let before = world.api.wait_for(&id, TaskState::Failed).await;
        assert_eq!(before.reason.as_deref(), Some(reason), "{before:?}");
        let is_failed = |job: &Job| {
            job.status
                .as_ref()
                .is_some_and(|status| status.failed.is_some_and(|pods| pods > 0))
        };
        eventually(MINUTE, "the end to be recorded", async || {
            let jobs = world.cluster.jobs(&id).await;
            let mut failed = jobs.iter().filter(|job| is_failed(job)).peekable();
            failed.peek()?;
            failed
                .all(|job| job.annotations().contains_key("k8s-cli/end"))
                .then_some(())
        })
        .await;
        for pod in pods_of(&world, &id).await {
            world
                .cluster
                .api::<Pod>()
                .delete(&pod.name_any(), &Default::default())
                .await
                .unwrap();
        }
        eventually(MINUTE, "the server to see that the pods are gone", async || {
            let pods = pods_of(&world, &id).await;
            let status = world.api.status(&id).await;
            let is_gone = status.metadata.nodes.iter().all(|node| node.pod_name.is_none());
            (pods.is_empty() && is_gone).then_some(())
        })
        .await;
        let after = world.api.status(&id).await;
        assert_eq!(after.metadata.attempts, [], "{after:?}");
        assert_eq!(
            (after.status, &after.reason, &after.message),
            (TaskState::Failed, &before.reason, &before.message)
        );
        let failed = after
            .metadata
            .nodes
            .iter()
            .find(|node| node.reason.as_deref() == Some(reason))
            .unwrap();
        if exit_code.is_some() {
            assert_eq!(failed.exit_code, exit_code, "{after:?}");
        }
        assert!(failed.started_at.is_some() && failed.finished_at.is_some(), "{after:?}");
        let jobs = world.cluster.jobs(&id).await.len();
        assert_eq!(jobs, after.metadata.nodes.len(), "no further attempt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_gang_restarts_without_using_a_retry() {
    let world = World::new().await;
    let task = small_task("echo \"id $SKYPILOT_TASK_ID\"; sleep 3; echo over")
        .nodes(2)
        .recovery(json!({"max_restarts_on_errors": 0}));
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, TaskState::Running).await;
    let (api, followed) = (world.api.clone(), id.clone());
    let log = tokio::spawn(async move { api.log_text(&followed, "").await });
    // The server must read the log before the eviction deletes the pod.
    world.api.wait_for_log(&id, |log| by_rank(log, "id ").len() == 2).await;
    let pod = pod_of(&status, 1);
    world.cluster.evict(pod).await;
    let log = log.await.unwrap();
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    let [before] = &status.metadata.attempts[..] else {
        panic!("{status:?}")
    };
    assert!(before.message.as_deref().unwrap().starts_with("node 1: "), "{before:?}");
    for rank in 0..2 {
        let first = by_rank(&log, "id ").get(&rank).cloned().unwrap_or_default();
        let prefix = format!("node-{rank} attempt-2 | ");
        let second: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert_eq!(second, [format!("id {first}").as_str(), "over"], "{log}");
    }
}

/// Each gang holds a part of the resources that it needs, and neither can get the rest.
#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_deadlocked_gangs_is_preempted() {
    preempt(&World::new().await, |task| task).await;
}

/// Checks that the later of two deadlocked gangs is preempted, with this change of both definitions.
pub(crate) async fn preempt(world: &World, change: impl Fn(TaskBuilder) -> TaskBuilder) {
    let all = world.cluster.largest_node_millicpus().await;
    let task = |nodes: u32, percent: u64, run: &str| {
        let cpus = format!("{}m", all * percent / 100);
        change(TaskBuilder::new(run).nodes(nodes).cpus(cpus))
    };
    let wait_for_scheduled = async |id: &str, count: usize| {
        let is_scheduled = |status: &TaskStatus| scheduled_nodes(status) == count;
        world
            .api
            .wait_for_status(id, 3 * MINUTE, "nodes to be scheduled", is_scheduled)
            .await;
    };
    let blocker = world.api.submit(&task(1, 20, "sleep 600")).await;
    wait_for_scheduled(&blocker, 1).await;
    // 20 + 2 * 30 are in use: the third 30 do not fit, but 15 do.
    let earlier = world.api.submit(&task(3, 30, "echo ran")).await;
    wait_for_scheduled(&earlier, 2).await;
    let later = world.api.submit(&task(3, 15, "echo ran")).await;
    wait_for_scheduled(&later, 1).await;
    // Another 15 fit, and nothing else: 2 * 30 + 2 * 15 are in use.
    world.api.stop(&blocker).await;
    let start = Instant::now();
    world.api.wait_for_reason(&later, "GaveWay").await;
    println!("the later gang was preempted after {:?}", start.elapsed());
    for id in [&earlier, &later] {
        world.api.wait_for(id, TaskState::Completed).await;
    }
    println!("both have completed after {:?}", start.elapsed());
    assert_eq!(world.cluster.pods().await.len(), 6, "preempted pods must be deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_job_ends_its_gang() {
    let world = World::new().await;
    let id = world.api.submit(&small_task("echo here; sleep 3600").nodes(3)).await;
    let status = world.api.wait_for(&id, TaskState::Running).await;
    world.api.wait_for_log(&id, |log| by_rank(log, "here").len() == 3).await;
    let job = &status.metadata.nodes[1].job_name;
    world
        .cluster
        .api::<Job>()
        .delete(job, &DeleteParams::background())
        .await
        .unwrap();
    let status = world.api.wait_for_nodes(&id, TaskState::Failed).await;
    assert_eq!(
        status.message.as_deref(),
        Some("node 1: the Job for this node was deleted"),
        "{status:?}"
    );
    assert_eq!(status.metadata.nodes[0].reason.as_deref(), Some("NodeFailed"));
    let log = world.api.log_text(&id, "").await;
    assert!(log.contains("node-0 | here") && log.contains("node-2 | here"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_without_any_job_is_deleted() {
    let world = World::new().await;
    let task = small_task("sleep 3600").nodes(2);
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Running).await;
    assert_eq!(world.cluster.owners().await.len(), 1);
    let all = ListParams::default().labels(&format!("task-id={id}"));
    let jobs = world.cluster.api::<Job>();
    jobs.delete_collection(&DeleteParams::background(), &all).await.unwrap();
    eventually(Duration::from_secs(60), "the owner to be deleted", async || {
        world.cluster.owners().await.is_empty().then_some(())
    })
    .await;
    assert_eq!(world.api.try_status(&id).await.status, 404);
}

/// DNS serves the endpoints of the Service.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_host_names_in_dns() {
    let world = World::new().await;
    let task = small_task("echo \"is $HOSTNAME\"; sleep 3600").nodes(2);
    let id = world.api.submit(&task).await;
    let status = world.api.wait_for(&id, TaskState::Running).await;
    let name = format!("task-{id}");
    let service = world.cluster.api::<Service>().get(&name).await.unwrap();
    assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("None"));
    if Backend::chosen() == Backend::Embedded {
        println!("skipped on Embedded: it has neither endpoints nor DNS");
    } else {
        let nodes = status.metadata.nodes.into_iter();
        let expected: HashSet<(String, String)> = nodes
            .map(|node| (format!("node-{}", node.rank), node.pod_ip.unwrap()))
            .collect();
        let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
        eventually(MINUTE, "the endpoints of both nodes", async || {
            let slices = world.cluster.api::<EndpointSlice>().list(&selector).await.unwrap();
            let endpoints = slices.items.into_iter().filter_map(|slice| slice.endpoints).flatten();
            let known: HashSet<(String, String)> = endpoints
                .filter_map(|endpoint| Some((endpoint.hostname?, endpoint.addresses.first()?.clone())))
                .collect();
            (known == expected).then_some(())
        })
        .await;
    }
    let log = world.api.wait_for_log(&id, |log| by_rank(log, "is ").len() == 2).await;
    assert_eq!(by_rank(&log, "is ")[&1], "node-1");
    // It is deleted with the task.
    assert_eq!(world.api.stop(&id).await.status, 200);
    world.cluster.wait_until_gone::<Service>(MINUTE, &name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_runs_without_its_service() {
    if Backend::chosen() == Backend::Embedded {
        println!("skipped on Embedded: its quotas count Jobs only");
        return;
    }
    let world = World::new().await;
    world.cluster.set_quota(json!({"count/services": "0"})).await;
    let task = small_task("echo ran").nodes(2);
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(by_rank(&world.api.log_text(&id, "").await, "ran").len(), 2);
}
