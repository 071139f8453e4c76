//! Behavior with a time limit. These tests run alone, because other tests would slow them down.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Proxy, TaskBuilder, World, eventually, small_task};
use reqwest::Method;
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

use crate::gang::{by_rank, scheduled_nodes, seconds};

/// Each node listens at its own address and connects to all others.
const ALL_TO_ALL: &str = r#"
    echo "start $EPOCHREALTIME"
    mapfile -t ips <<<"$SKYPILOT_NODE_IPS"
    own=${ips[SKYPILOT_NODE_RANK]} port=23456
    if command -v python3 >/dev/null; then
      python3 -c 'import socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64)
while True: s.accept()[0].close()' "$own" $port &
    else
      httpd -f -p "$own:$port" &
    fi
    reached=0
    for ip in "${ips[@]}"; do
      for try in $(seq 200); do
        (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null && { reached=$((reached + 1)); break; }
        sleep 0.05
      done
    done
    echo "reached $reached"
    echo "ips ${ips[*]}"
    echo "number $(echo "$SKYPILOT_NODE_IPS" | wc -l) $SKYPILOT_NUM_NODES $SKYPILOT_NUM_GPUS_PER_NODE $WORLD_SIZE"
    echo "head $MASTER_ADDR:$MASTER_PORT"
    echo "id $SKYPILOT_TASK_ID"
    sleep 2; kill %1
"#;

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_start_together_and_connect_to_each_other() {
    let world = World::new().await;
    world.cluster.wait_for_deletions().await;
    let task = small_task(ALL_TO_ALL).nodes(8);
    let id = world.api.submit(&task).await;
    let log = world.api.log_text(&id, "").await;
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    let starts = seconds(&by_rank(&log, "start "));
    assert_eq!(starts.len(), 8, "{log}");
    let spread = starts.iter().copied().fold(f64::MIN, f64::max) - starts.iter().copied().fold(f64::MAX, f64::min);
    println!("8 nodes started within {:.0} ms", spread * 1000.0);
    assert!(spread < 1.0, "{spread}");
    let nodes = status.metadata.nodes.iter();
    let own: Vec<&str> = nodes.map(|node| node.pod_ip.as_deref().unwrap()).collect();
    for rank in 0..8 {
        assert_eq!(by_rank(&log, "ips ")[&rank], own.join(" "));
        assert_eq!(by_rank(&log, "reached ")[&rank], "8", "{log}");
        assert_eq!(by_rank(&log, "number ")[&rank], "8 8 0 8");
        assert_eq!(by_rank(&log, "head ")[&rank], format!("{}:29500", own[0]));
        assert_eq!(by_rank(&log, "id ")[&rank], by_rank(&log, "id ")[&0]);
    }
    assert!(by_rank(&log, "id ")[&0].ends_with(&format!("_{id}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failed_node_ends_its_gang_and_is_named() {
    let world = World::new().await;
    world.cluster.wait_for_deletions().await;
    let run = r#"
        trap 'echo "ended"; exit 143' TERM
        echo "here"
        if [ $NODE_RANK = 2 ]; then sleep 1; echo "exits $EPOCHREALTIME"; exit 3; fi
        sleep 3600 & wait"#;
    let id = world.api.submit(&small_task(run).nodes(4)).await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    let seen = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let message = Some("node 2: the container exited with code 3");
    assert_eq!(
        (status.reason.as_deref(), status.message.as_deref()),
        (Some("Error"), message)
    );
    let status = world.api.wait_for_nodes(&id, TaskState::Failed).await;
    assert_eq!(status.message.as_deref(), message);
    for node in &status.metadata.nodes {
        if node.rank == 2 {
            assert_eq!((node.exit_code, node.reason.as_deref()), (Some(3), Some("Error")));
        } else {
            assert_eq!(node.reason.as_deref(), Some("NodeFailed"), "{node:?}");
            assert_eq!(node.message.as_deref(), Some("terminated because node 2 failed"));
        }
    }
    let log = world.api.log_text(&id, "").await;
    let exit = Duration::from_secs_f64(seconds(&by_rank(&log, "exits "))[0]);
    println!("failed {:?} after the exit", seen.saturating_sub(exit));
    assert!(seen.saturating_sub(exit) < Duration::from_secs(5), "{log}");
    assert_eq!(by_rank(&log, "here").len(), 4, "{log}");
    let mut ended: Vec<u32> = by_rank(&log, "ended").into_keys().collect();
    ended.sort_unstable();
    assert_eq!(ended, [0, 1, 3], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_alternative_follows_when_the_first_is_not_scheduled_in_time() {
    let world = World::new().await;
    world.cluster.wait_for_deletions().await;
    // Each fits, two do not.
    let most = world.cluster.largest_node_millicpus().await * 6 / 10;
    for nodes in [1, 2] {
        // Its place is taken, so that the first alternative has none, with one node, too.
        let other = world
            .api
            .submit(&TaskBuilder::new("sleep 600").cpus(format!("{most}m")))
            .await;
        world.api.wait_for(&other, TaskState::Running).await;
        let run = "echo runs";
        let mut task = serde_json::to_value(TaskBuilder::new(run).nodes(nodes).provision_timeout(3)).unwrap();
        task["resources"] = json!({"memory": "16Mi", "ordered": [
            {"cpus": format!("{most}m")}, {"cpus": format!("{}m", most + 1)}, {"cpus": "10m"},
        ]});
        let request = world.api.request(Method::POST, "/tasks/submit").json(&task);
        let response = request.send().await.unwrap();
        let warnings = response.headers().get_all("warning").iter();
        let warnings: String = warnings.map(|warning| warning.to_str().unwrap()).collect();
        let id = response.json::<Value>().await.unwrap()["task_id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(warnings.contains("uses alternative 1 of 3"), "{warnings}");
        assert!(
            warnings.contains(
                "tries the next alternative if its nodes are not scheduled within the `provision_timeout` of 3s"
            ),
            "{warnings}"
        );
        let status = world.api.wait_for_nodes(&id, TaskState::Completed).await;
        assert_eq!(status.metadata.nodes[0].attempt, 3, "{status:?}");
        let reasons: Vec<_> = status
            .metadata
            .attempts
            .iter()
            .map(|attempt| attempt.reason.as_deref())
            .collect();
        assert_eq!(reasons, [Some("ProvisionTimeout"); 2], "{status:?}");
        let log = world.api.log_text(&id, "").await;
        assert_eq!(log.matches("runs\n").count(), nodes as usize, "{log}");
        world.api.stop(&id).await;
        world.api.stop(&other).await;
        world.cluster.wait_for_deletions().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_past_its_provision_timeout_releases_its_resources() {
    let world = World::new().await;
    world.cluster.wait_for_deletions().await;
    // The scheduler must be at work: after a restart, it does not say within 3 s why a pod is pending.
    let probe = world.api.submit(&small_task("true")).await;
    world.api.wait_for(&probe, TaskState::Completed).await;
    // One node fits, two do not.
    let most = world.cluster.largest_node_millicpus().await * 6 / 10;
    let large = TaskBuilder::new("echo ran").cpus(format!("{most}m"));
    let task = large
        .clone()
        .nodes(2)
        .recovery(json!({"max_restarts_on_errors": 3}))
        .provision_timeout(3);
    let id = world.api.submit(&task).await;
    let start = Instant::now();
    let status = world.api.wait_for_nodes(&id, TaskState::Failed).await;
    println!("the gang ended after {:?}", start.elapsed());
    assert_eq!(status.reason.as_deref(), Some("ProvisionTimeout"), "{status:?}");
    let message = status.message.unwrap();
    assert!(
        message.contains("within the `provision_timeout` of 3s: 0/1 nodes are available"),
        "{message}"
    );
    let nodes = status.metadata.nodes.iter();
    let reasons: Vec<&str> = nodes.map(|node| node.reason.as_deref().unwrap()).collect();
    assert!(
        reasons.contains(&"NodeFailed"),
        "the scheduled node must be ended, too: {reasons:?}"
    );
    assert_eq!(world.api.log_text(&id, "").await, "");
    // Another task of that size runs immediately.
    let next = world.api.submit(&large).await;
    world.api.wait_for(&next, TaskState::Completed).await;
}

/// The watches of one of two servers are silent, so it does not see that both gangs have started.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_stale_cache_preempts_no_started_gang() {
    const LIMIT: Duration = Duration::from_secs(60);
    /// Slightly less than the time after which a server preempts a gang, so that it does so soon after its watches are
    /// silent.
    const BEFORE_PREEMPTION: Duration = Duration::from_secs(8);
    let world = World::own(&[]).await;
    world.cluster.wait_for_deletions().await;
    let proxy = Proxy::start(&world.kubeconfig()).await;
    let (_server, behind) = world.another(proxy.kubeconfig(), &[]);
    assert_eq!(behind.get("/readyz").await.status, 200);
    let all = world.cluster.largest_node_millicpus().await;
    let task = |nodes: u32, percent: u64, run: &str| {
        TaskBuilder::new(run)
            .nodes(nodes)
            .cpus(format!("{}m", all * percent / 100))
    };
    let wait_for_scheduled = async |id: &str| {
        let is_scheduled = |status: &TaskStatus| scheduled_nodes(status) == 1;
        world
            .api
            .wait_for_status(id, LIMIT, "a node to be scheduled", is_scheduled)
            .await;
    };
    let blocker = world.api.submit(&task(1, 55, "sleep 600")).await;
    wait_for_scheduled(&blocker).await;
    // 55 + 25 are in use: a second 25 do not fit. Then 15 fit, but not a second time.
    let earlier = world.api.submit(&task(2, 25, "sleep 15; echo ran")).await;
    wait_for_scheduled(&earlier).await;
    let later = world.api.submit(&task(2, 15, "sleep 15; echo ran")).await;
    wait_for_scheduled(&later).await;
    eventually(LIMIT, "the other server to see that both wait", async || {
        let seen = behind.try_status(&later).await;
        (seen.status == 200 && seen.body["reason"] == "Unschedulable").then_some(())
    })
    .await;
    tokio::time::sleep(BEFORE_PREEMPTION).await;
    proxy.silence();
    world.api.stop(&blocker).await;
    for id in [&earlier, &later] {
        let status = world.api.wait_for(id, TaskState::Completed).await;
        assert_eq!(status.metadata.nodes.len(), 2, "{status:?}");
        for job in world.cluster.jobs(id).await {
            let gave_way = job.metadata.annotations.unwrap_or_default().remove("k8s-cli/gave-way");
            assert_eq!(gave_way, None, "a started gang must not be preempted");
        }
    }
}
