//! What has a time limit. These tests run alone: on a machine with two cores, other tests would be measured as well.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Proxy, World, eventually};
use serde_json::json;

use crate::gang::{nodes, said, seconds};

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
async fn eight_nodes_start_together_and_reach_each_other() {
    let world = World::new().await;
    world.cluster.calm().await;
    let task = json!({"num_nodes": 8, "resources": {"cpus": "10m"}, "run": ALL_TO_ALL});
    let id = world.api.submit(&task).await;
    let log = world.api.log_text(&id, "").await;
    let status = world.api.wait_for(&id, "completed").await;
    let starts = seconds(&said(&log, "start "));
    assert_eq!(starts.len(), 8, "{log}");
    let spread = starts.iter().copied().fold(f64::MIN, f64::max) - starts.iter().copied().fold(f64::MAX, f64::min);
    println!("8 nodes started within {:.0} ms", spread * 1000.0);
    assert!(spread < 1.0, "{spread}");
    let own: Vec<&str> = nodes(&status)
        .iter()
        .map(|node| node["pod_ip"].as_str().unwrap())
        .collect();
    for rank in 0..8 {
        assert_eq!(said(&log, "ips ")[&rank], own.join(" "));
        assert_eq!(said(&log, "reached ")[&rank], "8", "{log}");
        assert_eq!(said(&log, "number ")[&rank], "8 8 0 8");
        assert_eq!(said(&log, "head ")[&rank], format!("{}:29500", own[0]));
        assert_eq!(said(&log, "id ")[&rank], said(&log, "id ")[&0]);
    }
    assert!(said(&log, "id ")[&0].ends_with(&format!("_{id}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_ends_the_others_and_is_named() {
    let world = World::new().await;
    world.cluster.calm().await;
    let run = r#"
        trap 'echo "ended"; exit 143' TERM
        echo "here"
        if [ $NODE_RANK = 2 ]; then sleep 1; echo "exits $EPOCHREALTIME"; exit 3; fi
        sleep 3600 & wait"#;
    let id = world
        .api
        .submit(&json!({"num_nodes": 4, "resources": {"cpus": "10m"}, "run": run}))
        .await;
    let status = world.api.wait_for(&id, "failed").await;
    let seen = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(status["reason"], "Error");
    assert_eq!(status["message"], "node 2: the container exited with code 3");
    let status = world.api.wait_for_nodes(&id, "failed").await;
    assert_eq!(status["message"], "node 2: the container exited with code 3");
    for node in nodes(&status) {
        if node["rank"] == 2 {
            assert_eq!((&node["exit_code"], &node["reason"]), (&json!(3), &json!("Error")));
        } else {
            assert_eq!(node["reason"], "NodeFailed", "{node}");
            assert_eq!(node["message"], "terminated because node 2 failed");
        }
    }
    let log = world.api.log_text(&id, "").await;
    let exit = Duration::from_secs_f64(seconds(&said(&log, "exits "))[0]);
    println!("failed {:?} after the exit", seen.saturating_sub(exit));
    assert!(seen.saturating_sub(exit) < Duration::from_secs(5), "{log}");
    assert_eq!(said(&log, "here").len(), 4, "{log}");
    let mut ended: Vec<u32> = said(&log, "ended").into_keys().collect();
    ended.sort_unstable();
    assert_eq!(ended, [0, 1, 3], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_has_no_place_in_time_fails_and_frees_what_it_holds() {
    let world = World::new().await;
    world.cluster.calm().await;
    // One node fits, two do not.
    let most = world.cluster.free_cpus().await * 6 / 10;
    let id = world
        .api
        .submit(&json!({
            "num_nodes": 2, "resources": {"cpus": format!("{most}m"), "job_recovery": {"max_restarts_on_errors": 3}},
            "config": {"kubernetes": {"provision_timeout": 3}}, "run": "echo ran",
        }))
        .await;
    let start = Instant::now();
    let status = world.api.wait_for_nodes(&id, "failed").await;
    println!("has ended after {:?}", start.elapsed());
    assert_eq!(status["reason"], "ProvisionTimeout", "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("within the `provision_timeout` of 3s: 0/1 nodes are available"),
        "{message}"
    );
    let reasons: Vec<&str> = nodes(&status)
        .iter()
        .map(|node| node["reason"].as_str().unwrap())
        .collect();
    assert!(
        reasons.contains(&"NodeFailed"),
        "the one that had a place is ended, too: {reasons:?}"
    );
    assert_eq!(world.api.log_text(&id, "").await, "");
    // Nothing is held: another task of that size runs immediately.
    let next = json!({"resources": {"cpus": format!("{most}m")}, "run": "true"});
    let next = world.api.submit(&next).await;
    world.api.wait_for(&next, "completed").await;
}

/// Each of two servers may act late on what it has seen: one is cut off from the news that both tasks have begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_behind_ends_nothing_that_has_begun() {
    const LATE: Duration = Duration::from_secs(60);
    /// After this time a server makes a task give way. The later it is cut off, the sooner it acts on what it has seen.
    const NEARLY_PATIENT: Duration = Duration::from_secs(8);
    let world = World::own(&[]).await;
    world.cluster.calm().await;
    let proxy = Proxy::start(&world.kubeconfig()).await;
    let (_server, behind) = world.another(proxy.kubeconfig(), &[]);
    assert_eq!(behind.get("/readyz").await.status, 200);
    let all = world.cluster.free_cpus().await;
    let task = |nodes: u32, percent: u64, run: &str| json!({"num_nodes": nodes, "resources": {"cpus": format!("{}m", all * percent / 100)}, "run": run});
    let placed = async |id: &str| {
        eventually(LATE, "a node to be scheduled", async || {
            let status = world.api.status(id).await;
            let placed = nodes(&status).iter().filter(|node| !node["node_name"].is_null());
            (placed.count() == 1).then_some(())
        })
        .await;
    };
    let blocker = world.api.submit(&task(1, 55, "sleep 600")).await;
    placed(&blocker).await;
    // 55 + 25 are in use: a second 25 do not fit. Then 15 fit, but not a second time.
    let earlier = world.api.submit(&task(2, 25, "sleep 15; echo ran")).await;
    placed(&earlier).await;
    let later = world.api.submit(&task(2, 15, "sleep 15; echo ran")).await;
    placed(&later).await;
    eventually(LATE, "the other server to see that both wait", async || {
        let seen = behind.get(&format!("/tasks/{later}")).await;
        (seen.status == 200 && seen.body["reason"] == "Unschedulable").then_some(())
    })
    .await;
    tokio::time::sleep(NEARLY_PATIENT).await;
    proxy.silence();
    world.api.stop(&blocker).await;
    for id in [&earlier, &later] {
        let status = world.api.wait_for(id, "completed").await;
        assert_eq!(status["metadata"]["nodes"].as_array().unwrap().len(), 2, "{status}");
        for job in world.cluster.jobs(id).await {
            let gave_way = job.metadata.annotations.unwrap_or_default().remove("k8s-cli/gave-way");
            assert_eq!(gave_way, None, "it had begun");
        }
    }
}
