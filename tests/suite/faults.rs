//! Servers that are killed at random times, an unavailable cluster, and many followers.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Api, Backend, Cluster, TaskBuilder, World, eventually, from_environment, raw};
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

use crate::logs::assert_in_order;

/// Submits `count` tasks, each with a key, and repeats each until it is acknowledged. Every third task has three nodes.
/// Returns the IDs and the number of nodes of each.
async fn submit_all(api: Api, count: usize) -> HashMap<String, usize> {
    let workers = 8;
    let submitted = join_all((0..workers).map(|worker| {
        let api = api.clone();
        async move {
            let mut mine = Vec::new();
            for index in (worker..count).step_by(workers) {
                let nodes = if index % 3 == 0 { 3 } else { 1 };
                // No cluster node has this many CPUs: the test is about what exists, not about what runs.
                let task = TaskBuilder::new("true")
                    .name(&format!("t{index}"))
                    .nodes(nodes)
                    .cpus(100_000);
                let key = format!("key-{index}");
                let id = eventually(Duration::from_secs(120), "a submit to be acknowledged", async || {
                    let answer = api.submit_once(&key, &task).await?;
                    (answer.status == 200).then(|| answer.task_id())
                })
                .await;
                mine.push((id, nodes as usize));
            }
            mine
        }
    }))
    .await;
    submitted.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_submits_leaves_no_partial_task() {
    let kills = from_environment("K8S_CLI_E2E_KILLS", 10);
    let count = from_environment("K8S_CLI_E2E_SUBMITS", 60);
    let mut world = World::own(&[]).await;
    let done = AtomicBool::new(false);
    let api = world.api.clone();
    let submitting = async {
        let acknowledged = submit_all(api, count).await;
        done.store(true, Ordering::Relaxed);
        acknowledged
    };
    let killing = async {
        let mut during = 0;
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..80))).await;
            during += usize::from(!done.load(Ordering::Relaxed));
            world.server().kill();
            world.server().restart();
        }
        println!("{during} of {kills} kills before all of {count} submits were acknowledged");
        during
    };
    let (acknowledged, during) = tokio::join!(submitting, killing);
    assert!(during > 0);
    assert_eq!(acknowledged.len(), count);
    assert_complete(&world, &acknowledged).await;
}

/// Checks that all acknowledged tasks exist with all of their nodes, and no others.
async fn assert_complete(world: &World, acknowledged: &HashMap<String, usize>) {
    // What a killed server left unfinished is deleted after its deadline.
    eventually(Duration::from_secs(90), "unfinished tasks to be deleted", async || {
        let owners = world.cluster.owners().await;
        let unfinished = owners
            .iter()
            .filter(|owner| !owner.annotations().contains_key("k8s-cli/committed"));
        (unfinished.count() == 0).then_some(())
    })
    .await;
    let mut jobs: BTreeMap<String, usize> = BTreeMap::new();
    eventually(
        Duration::from_secs(60),
        "the Jobs of unfinished tasks to go",
        async || {
            jobs = BTreeMap::new();
            for job in world.cluster.all_jobs().await {
                *jobs.entry(job.labels()["task-id"].clone()).or_default() += 1;
            }
            jobs.keys().all(|id| acknowledged.contains_key(id)).then_some(())
        },
    )
    .await;
    for (id, nodes) in acknowledged {
        assert_eq!(jobs.get(id), Some(nodes), "{id}");
    }
    let mut listed = world.api.task_ids().await;
    listed.sort_unstable();
    assert_eq!(listed, jobs.keys().cloned().collect::<Vec<_>>());
}

/// Stops and starts the kube-apiserver of the test cluster; `None` where that is not possible.
fn control_apiserver() -> Option<impl Fn(&str)> {
    let script = std::env::var("K8S_CLI_TEST_CLUSTER").ok()?;
    Some(move |action: &str| {
        let status = Command::new(&script).args(["apiserver", action]).status().unwrap();
        assert!(status.success(), "{script} apiserver {action}");
    })
}

/// Requests the status continuously; every 200 response must be one of these states.
fn watch_status(api: &Api, id: &str, done: &Arc<AtomicBool>) -> tokio::task::JoinHandle<(usize, usize)> {
    let (api, id, done) = (api.clone(), id.to_owned(), Arc::clone(done));
    tokio::spawn(async move {
        let (mut right, mut refused) = (0, 0);
        while !done.load(Ordering::Relaxed) {
            let answer = api.try_status(&id).await;
            match (answer.status, answer.body["status"].as_str()) {
                (200, Some("running" | "completed")) => right += 1,
                (500, _) => refused += 1,
                other => panic!("an invalid response: {other:?} {}", answer.body),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        (right, refused)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_is_lost_while_the_api_server_is_away() {
    if Backend::Embedded.lacks("its API server is the same process") {
        return;
    }
    let Some(apiserver) = control_apiserver() else {
        println!("skipped: K8S_CLI_TEST_CLUSTER names no script that can stop kube-apiserver");
        return;
    };
    let world = World::own(&[]).await;
    // 30,000 lines within 30 s, so that kube-apiserver stops in the middle.
    let script = "i=0; while [ $i -lt 30000 ]; do echo \"line $i of node $NODE_RANK\"; i=$((i + 1)); \
                  [ $((i % 1000)) -ne 0 ] || sleep 1; done";
    let id = world.api.submit(&TaskBuilder::new(script).nodes(3)).await;
    let all_run = |status: &TaskStatus| status.metadata.running_nodes == 3;
    world
        .api
        .wait_for_status(&id, Duration::from_secs(120), "all nodes to run", all_run)
        .await;
    let following = tokio::spawn({
        let (api, id) = (world.api.clone(), id.clone());
        async move { api.log_text(&id, "").await }
    });
    let done = Arc::new(AtomicBool::new(false));
    let asking = watch_status(&world.api, &id, &done);
    world.api.wait_for_log(&id, |log| log.lines().count() > 6000).await;
    let start = Instant::now();
    apiserver("stop");
    eventually(
        Duration::from_secs(10),
        "the server to say that it is not ready",
        async || (world.api.get("/readyz").await.status == 503).then_some(()),
    )
    .await;
    let detail = world.api.try_submit(&TaskBuilder::new("true")).await.error(500);
    assert!(detail.starts_with("Failed to submit task: "), "{detail}");
    tokio::time::sleep(Duration::from_secs(20).saturating_sub(start.elapsed())).await;
    apiserver("start");
    let started = Instant::now();
    eventually(Duration::from_secs(5), "a fresh status", async || {
        (world.api.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    println!("current {:?} after the start of kube-apiserver", started.elapsed());
    assert_in_order(&following.await.unwrap(), 3, 30_000);
    world.api.wait_for(&id, TaskState::Completed).await;
    done.store(true, Ordering::Relaxed);
    let (right, refused) = asking.await.unwrap();
    println!("{right} correct responses, {refused} rejected");
    assert!(right > 0 && refused > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_followers_get_every_line_and_lists_stay_fast() {
    let followers = from_environment("K8S_CLI_E2E_FOLLOWERS", 300);
    let count = 2000;
    let world = World::own(&[]).await;
    // Deleting the hundreds of pods of the test before would take the processors away from the server.
    world.cluster.wait_for_deletions().await;
    let script = format!(
        "i=0; while [ $i -lt {count} ]; do echo \"line $i of node $NODE_RANK\"; i=$((i + 1)); \
         [ $((i % 200)) -ne 0 ] || sleep 1; done"
    );
    let id = world.api.submit(&TaskBuilder::new(script).nodes(3)).await;
    let path = format!("/tasks/{id}/logs");
    let done = Arc::new(AtomicBool::new(false));
    let connecting = (0..followers).map(|_| world.api.request(reqwest::Method::GET, &path).send());
    let responses = join_all(connecting).await;
    // Only now: a list that arrives together with hundreds of connections waits for its turn among them.
    let asking = time_lists(world.api.base().to_owned(), Arc::clone(&done));
    let following: Vec<_> = responses
        .into_iter()
        .map(|response| {
            let mut stream = response.unwrap().bytes_stream();
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                let mut log = Vec::new();
                while let Some(chunk) = stream.next().await {
                    log.extend_from_slice(&chunk.unwrap());
                }
                // The same is true when all of them end.
                done.store(true, Ordering::Relaxed);
                String::from_utf8(log).unwrap()
            })
        })
        .collect();
    let logs = join_all(following).await;
    let lists = asking.join().unwrap();
    for log in logs {
        assert_in_order(&log.unwrap(), 3, count);
    }
    let mut times: Vec<_> = lists.iter().map(|list| list.time).collect();
    times.sort_unstable();
    let usual = times[times.len() * 95 / 100];
    let slowest = lists.iter().max_by_key(|list| list.time).unwrap();
    println!(
        "{followers} followers, {} times GET /tasks: 95 of 100 within {usual:?}, slowest {slowest:?}",
        lists.len()
    );
    let limit = Duration::from_millis(50);
    assert!(usual < limit, "{usual:?}");
    for list in &lists {
        assert!(list.time < limit + list.socket + list.stolen, "{list:?}");
    }
}

/// The time of one list, and what the machine did meanwhile: the followers, the task, and the cluster use the same one.
#[derive(Debug)]
struct ListTime {
    time: Duration,
    /// The slowest response of an idle socket in the same moments.
    socket: Duration,
    /// The processor time that the hypervisor gave to other machines in the same moments.
    stolen: Duration,
}

/// Times `GET /tasks` until `done`. It runs in a thread of its own, to measure the server and not this process with its
/// hundreds of streams.
fn time_lists(base: String, done: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<ListTime>> {
    let ask = |base: &str| {
        let start = Instant::now();
        let answer = raw(base, "GET", "/tasks", &[("X-User", b"alice@example.com")], None);
        (start, Instant::now(), answer)
    };
    let asking_socket = std::thread::spawn({
        let (socket, done) = (start_idle_socket(), Arc::clone(&done));
        move || {
            let mut answers = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let (start, end, _) = ask(&socket);
                answers.push((start, end));
                std::thread::sleep(Duration::from_millis(2));
            }
            answers
        }
    });
    std::thread::spawn(move || {
        let mut lists = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let before = stolen_time();
            let (start, end, answer) = ask(&base);
            assert_eq!(answer.json()["tasks"].as_array().unwrap().len(), 1);
            lists.push((start, end, stolen_time() - before));
            std::thread::sleep(Duration::from_millis(20));
        }
        let sockets = asking_socket.join().unwrap();
        let of_list = |(start, end, stolen): (Instant, Instant, Duration)| ListTime {
            time: end - start,
            socket: sockets
                .iter()
                .filter(|socket| socket.0 < end && socket.1 > start)
                .map(|socket| socket.1 - socket.0)
                .max()
                .unwrap_or_default(),
            stolen,
        };
        lists.into_iter().map(of_list).collect()
    })
}

/// Starts a server that answers each request with an empty response, and returns its address.
fn start_idle_socket() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    base
}

/// The processor time that the hypervisor gave to other machines since this one started: the eighth number of
/// `/proc/stat`, in hundredths of a second (<https://man7.org/linux/man-pages/man5/proc_stat.5.html>).
fn stolen_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let hundredths = stat.split_whitespace().nth(8).unwrap().parse::<u64>().unwrap();
    Duration::from_millis(hundredths * 10)
}

/// Creates a cluster node that no pod is scheduled on.
async fn create_machine(cluster: &Cluster, name: &str, labels: Value) {
    let node = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [{"key": "e2e", "effect": "NoSchedule"}]},
    });
    let node: Node = serde_json::from_value(node).unwrap();
    cluster.global().create(&PostParams::default(), &node).await.unwrap();
    let status = json!({"status": {
        "allocatable": {"cpu": "64", "memory": "256Gi", "nvidia.com/gpu": "8", "pods": "110"},
        "capacity": {"cpu": "64", "memory": "256Gi", "nvidia.com/gpu": "8", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let (params, patch) = (PatchParams::default(), Patch::Merge(status));
    cluster
        .global::<Node>()
        .patch_status(name, &params, &patch)
        .await
        .unwrap();
}

/// Runs alone, because other tests expect a cluster without GPUs.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_selects_the_cluster_nodes_that_have_it() {
    if Backend::Embedded.lacks("cluster nodes with GPUs") {
        return;
    }
    const LABEL: &str = "nvidia.com/gpu.product";
    let cluster = Cluster::connect(None).await;
    create_machine(&cluster, "gpu-a", json!({LABEL: "NVIDIA-A100-SXM4-80GB"})).await;
    create_machine(
        &cluster,
        "gpu-b",
        json!({LABEL: "NVIDIA-L4", "cloud.google.com/gke-spot": "true"}),
    )
    .await;
    let tested = AssertUnwindSafe(async {
        let world = World::own(&[]).await;
        let submit = async |resources: Value| {
            let task = json!({"run": "true", "resources": resources});
            world.api.post("/tasks/submit?dry_run=true", &task).await
        };
        let answer = submit(json!({"accelerators": ["L4:2", "T4:8"], "use_spot": true}))
            .await
            .ok();
        let pod = &answer["manifests"][0]["spec"]["template"]["spec"];
        let affinity = &pod["affinity"]["nodeAffinity"];
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        let expected = json!([
            {"key": LABEL, "operator": "In", "values": ["NVIDIA-L4"]},
            {"key": "cloud.google.com/gke-spot", "operator": "In", "values": ["true"]},
        ]);
        assert_eq!(required[0]["matchExpressions"], expected, "{pod}");
        let answer = submit(json!({"accelerators": "H200:1"})).await;
        let expected = "no cluster node has the accelerator `H200`; this cluster has A100-SXM4-80GB, L4";
        assert!(answer.body.to_string().contains(expected), "{answer:?}");
        let gpus = world.api.get("/gpus").await.ok();
        let names = gpus["gpus"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gpu| (gpu["model"].clone(), gpu["free"].clone()));
        assert_eq!(
            names.collect::<Vec<_>>(),
            [(json!("A100-SXM4-80GB"), json!(8)), (json!("L4"), json!(8))]
        );
        // The scheduler takes the affinity: the only fitting node has a taint that the task does not tolerate.
        let id = world
            .api
            .submit(&json!({"run": "true", "resources": {"accelerators": "A100:1"}}))
            .await;
        let status = world.api.wait_for_reason(&id, "Unschedulable").await;
        let message = status.message.unwrap();
        assert!(message.contains("untolerated taint"), "{message}");
        let _ = world.api.stop(&id).await.ok();
    })
    .catch_unwind()
    .await;
    for name in ["gpu-a", "gpu-b"] {
        cluster
            .global::<Node>()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    tested.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_is_pending_while_cluster_nodes_are_cordoned() {
    let world = World::new().await;
    let all = world.cluster.largest_node_millicpus().await;
    let part = |percent: u64, run: &str| TaskBuilder::new(run).cpus(format!("{}m", all * percent / 100));
    let blocker = world.api.submit(&part(60, "sleep 600")).await;
    world.api.wait_for(&blocker, TaskState::Running).await;
    let id = world.api.submit(&part(30, "echo ran").nodes(2)).await;
    world.api.wait_for_reason(&id, "Unschedulable").await;
    world.cluster.cordon(true).await;
    let waiting = async {
        world.api.stop(&blocker).await;
        let is_cordoned = |status: &TaskStatus| {
            let message = status.message.as_deref().unwrap_or_default();
            message.contains("1 node(s) were unschedulable")
        };
        let what = "the cluster node to be the reason";
        world
            .api
            .wait_for_status(&id, Duration::from_secs(60), what, is_cordoned)
            .await
    };
    // Uncordon it in any case, because other tests need it.
    let waiting = AssertUnwindSafe(waiting).catch_unwind().await;
    world.cluster.cordon(false).await;
    let waiting = waiting.unwrap();
    assert_eq!(
        (waiting.status, waiting.reason.as_deref()),
        (TaskState::Pending, Some("Unschedulable"))
    );
    assert!(waiting.message.as_deref().unwrap().starts_with("node "), "{waiting:?}");
    world.api.wait_for(&id, TaskState::Completed).await;
    let log = world.api.log_text(&id, "").await;
    assert_eq!(log.matches("ran").count(), 2, "{log}");
}
