//! What containers see, and how they are isolated, both in a container runtime and as processes of this machine.

use std::time::{Duration, Instant};

use e2e::{Backend, TaskBuilder, World, eventually, from_environment, shims};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

const IMAGE: &str = "python:3.13-slim";

/// A pod that runs a script, with additions to its container and its spec.
fn pod(script: &str, container: &Value, spec: &Value) -> Value {
    let mut main = json!({"name": "main", "image": IMAGE, "command": ["/bin/bash", "-c", script]});
    main.as_object_mut()
        .unwrap()
        .extend(container.as_object().unwrap().clone());
    let mut all = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [main]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"metadata": {"name": format!("p-{:08x}", fastrand::u32(..))}, "spec": all})
}

async fn phase(world: &World, name: &str) -> String {
    let pod = world.cluster.api::<Pod>().get(name).await.unwrap();
    pod.status.and_then(|status| status.phase).unwrap_or_default()
}

async fn wait_for_phase(world: &World, name: &str, wanted: &str) {
    eventually(
        Duration::from_secs(90),
        &format!("pod {name} to be {wanted}"),
        async || {
            let found = phase(world, name).await;
            assert!(
                found == wanted || !["Failed", "Succeeded"].contains(&found.as_str()),
                "{name} is {found}"
            );
            (found == wanted).then_some(())
        },
    )
    .await;
}

async fn log(world: &World, name: &str) -> String {
    world
        .cluster
        .api::<Pod>()
        .logs(name, &kube::api::LogParams::default())
        .await
        .unwrap()
}

/// Number of processes of this machine whose command contains this text.
fn processes(text: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(text))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_have_the_data_of_objects_and_pod_annotations() {
    let world = World::own(&[]).await;
    let _: ConfigMap = world
        .cluster
        .make(json!({"metadata": {"name": "config"}, "data": {"file": "from config"}}))
        .await;
    let _: Secret = world
        .cluster
        .make(json!({"metadata": {"name": "secret"}, "stringData": {"key": "from secret"}}))
        .await;
    let script = "cat /c/file; echo; cat /s/key; echo; echo $FROM $NAME; : >/c/file || echo read only; \
                  until grep -q opened /d/annotations; do sleep 0.05; done; echo seen; mkdir /e/new && echo empty";
    let container = json!({
        "env": [
            {"name": "FROM", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "file"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "volumeMounts": [
            {"name": "c", "mountPath": "/c"}, {"name": "s", "mountPath": "/s"},
            {"name": "d", "mountPath": "/d"}, {"name": "e", "mountPath": "/e"},
        ],
    });
    let spec = json!({"volumes": [
        {"name": "c", "configMap": {"name": "config"}},
        {"name": "s", "secret": {"secretName": "secret"}},
        {"name": "d", "downwardAPI": {"items": [
            {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
        ]}},
        {"name": "e", "emptyDir": {}},
    ]});
    let made: Pod = world.cluster.make(pod(script, &container, &spec)).await;
    let name = made.name_any();
    wait_for_phase(&world, &name, "Running").await;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"gate": "opened"}}}));
    world
        .cluster
        .api::<Pod>()
        .patch(&name, &PatchParams::default(), &patch)
        .await
        .unwrap();
    wait_for_phase(&world, &name, "Succeeded").await;
    let text = log(&world, &name).await;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("Read-only file system"))
        .collect();
    let names = format!("from config {name}");
    assert_eq!(
        lines,
        ["from config", "from secret", &names, "read only", "seen", "empty"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_ready_when_its_probe_succeeds() {
    let world = World::own(&[]).await;
    let probe = json!({"readinessProbe": {"exec": {"command": ["test", "-f", "/tmp/ready"]}, "periodSeconds": 1}});
    let made: Pod = world
        .cluster
        .make(pod("sleep 2; touch /tmp/ready; sleep 600", &probe, &json!({})))
        .await;
    let name = made.name_any();
    wait_for_phase(&world, &name, "Running").await;
    let ready = async || {
        let pod = world.cluster.api::<Pod>().get(&name).await.unwrap();
        let status = pod.status.unwrap();
        status.container_statuses.unwrap()[0].ready
    };
    assert!(!ready().await);
    eventually(Duration::from_secs(30), "the pod to be ready", async || {
        ready().await.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_task_have_different_addresses() {
    let world = World::own(&[]).await;
    let id = world.api.submit(&TaskBuilder::new("sleep 1").nodes(2)).await;
    let status = world.api.wait_for(&id, TaskState::Completed).await;
    let [first, second] = &status.metadata.nodes[..] else {
        panic!("{status:?}")
    };
    assert_ne!(first.pod_ip, second.pod_ip, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_come_from_the_pod_and_not_from_the_server() {
    if Backend::Cluster.lacks("the environment comes from the image") {
        return;
    }
    let world = World::own(&[]).await;
    let id = world
        .api
        .submit(&TaskBuilder::new("env | cut -d= -f1 | sort").env("MINE", "1"))
        .await;
    let names = world.api.log_text(&id, "").await;
    let bashs_own = ["OLDPWD", "PWD", "SHLVL", "_"];
    let is_other = |name: &&str| !bashs_own.contains(name) && !name.starts_with("SKYPILOT_");
    let names: Vec<&str> = names.lines().filter(is_other).collect();
    assert_eq!(
        names,
        [
            "HOME",
            "HOSTNAME",
            "MASTER_ADDR",
            "MASTER_PORT",
            "MINE",
            "NODE_RANK",
            "NUM_NODES",
            "PATH",
            "PYTHONUNBUFFERED"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_child_processes_end_with_the_task() {
    if Backend::Cluster.lacks("it is the responsibility of the container runtime") {
        return;
    }
    let world = World::own(&[]).await;
    let marker = format!("9{:08}", fastrand::u32(..100_000_000));
    let script = format!("setsid sleep {marker} & (setsid nohup sleep {marker} & ) ; sleep 0.2; echo done");
    let id = world.api.run(&script).await;
    world.api.wait_for(&id, TaskState::Completed).await;
    assert!(world.api.log_text(&id, "").await.starts_with("done\n"));
    let found = eventually(Duration::from_secs(5), "the children to end", async || {
        (processes(&format!("sleep {marker}")) == 0).then_some(0)
    })
    .await;
    assert_eq!(found, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_ignores_sigterm_is_killed() {
    let world = World::own(&[]).await;
    let made: Pod = world
        .cluster
        .make(pod("trap '' TERM; while :; do sleep 600; done", &json!({}), &json!({})))
        .await;
    let name = made.name_any();
    wait_for_phase(&world, &name, "Running").await;
    let start = Instant::now();
    world
        .cluster
        .api::<Pod>()
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    world
        .cluster
        .wait_until_gone::<Pod>(Duration::from_secs(30), &name)
        .await;
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    if let Some(state) = world.state_dir() {
        assert!(shims(state).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_past_its_deadline_fails_and_keeps_its_log() {
    let world = World::own(&[]).await;
    let script = "trap 'echo ending; exit 0' TERM; echo up; while :; do sleep 0.1; done";
    // Bash runs the trap after its `sleep`, which may take longer on a busy machine.
    let spec = json!({"terminationGracePeriodSeconds": 30});
    let made: Pod = world.cluster.make(pod(script, &json!({}), &spec)).await;
    let name = made.name_any();
    wait_for_phase(&world, &name, "Running").await;
    eventually(Duration::from_secs(60), "the script to set its trap", async || {
        (log(&world, &name).await == "up\n").then_some(())
    })
    .await;
    let patch = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}}));
    world
        .cluster
        .api::<Pod>()
        .patch(&name, &PatchParams::default(), &patch)
        .await
        .unwrap();
    wait_for_phase(&world, &name, "Failed").await;
    let pod = world.cluster.api::<Pod>().get(&name).await.unwrap();
    assert_eq!(pod.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(log(&world, &name).await, "up\nending\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_job_deletes_its_pods_until_it_is_resumed() {
    let world = World::own(&[]).await;
    let template = json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "image": IMAGE, "command": ["/bin/bash", "-c", "trap 'exit 1' TERM; while :; do sleep 0.1; done"]},
    ]}});
    let _: Job = world
        .cluster
        .make(json!({"metadata": {"name": "s"}, "spec": {"template": template}}))
        .await;
    let active = async || {
        let job = world.cluster.api::<Job>().get("s").await.unwrap();
        job.status.and_then(|status| status.active).unwrap_or(0)
    };
    let change = async |suspend: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        world
            .cluster
            .api::<Job>()
            .patch("s", &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    eventually(Duration::from_secs(60), "a pod", async || {
        (active().await == 1).then_some(())
    })
    .await;
    change(true).await;
    eventually(Duration::from_secs(60), "no pod", async || {
        (active().await == 0 && world.cluster.pods().await.is_empty()).then_some(())
    })
    .await;
    change(false).await;
    eventually(Duration::from_secs(60), "a new pod", async || {
        (active().await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tasks_run_beside_a_fork_bomb_and_a_memory_hog() {
    if Backend::Cluster.lacks("it would test the cluster") {
        return;
    }
    let world = World::own(&[]).await;
    let limited = |run: &str| TaskBuilder::new(run).memory("64Mi");
    let bomb = world.api.submit(&limited("b() { b | b & }; b; sleep 600")).await;
    let hog = limited("x=$(head -c 500000000 /dev/zero | tr '\\0' x)");
    let hog = world.api.submit(&hog).await;
    world.api.wait_for(&hog, TaskState::Failed).await;
    let start = Instant::now();
    let other = world.api.run("echo still here").await;
    assert_eq!(world.api.log_text(&other, "").await, "still here\n");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    world.api.stop(&bomb).await;
    let state = world.state_dir().unwrap();
    eventually(Duration::from_secs(60), "the fork bomb to end", async || {
        shims(state).is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_never_ends_is_kept_up_to_its_limit() {
    if Backend::Cluster.lacks("the operator configures the kubelet's log rotation") {
        return;
    }
    let mebibytes = from_environment("K8S_CLI_E2E_LOG_MIB", 256);
    let world = World::own(&["--log-limit", "16"]).await;
    let count = mebibytes * (1 << 20) / 64;
    let script = format!("yes {} | head -n {count}; echo the end", "x".repeat(63));
    let id = world.api.run(&script).await;
    let other = world.api.run("echo beside").await;
    assert_eq!(world.api.log_text(&other, "").await, "beside\n");
    let is_completed = |status: &TaskStatus| status.status == TaskState::Completed;
    world
        .api
        .wait_for_status(&id, Duration::from_secs(300), "the writer to end", is_completed)
        .await;
    let size: u64 = walk(world.state_dir().unwrap());
    assert!(size < 40 << 20, "{size} bytes are kept");
    assert_eq!(world.api.log_text(&id, "?tail=1").await, "the end\n");
    let kept = world.api.logs(&id, "").await;
    // The oldest quarter may be deleted, and each line of 64 bytes takes 40 more for its time and stream.
    let least = (16 << 20) / 4 * 3 / 104 * 64;
    assert!(kept.len() >= least && kept.ends_with(b"x\nthe end\n"), "{}", kept.len());
}

/// The container can write the files in its own directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_truncated_its_own_record_can_be_stopped() {
    if Backend::Cluster.lacks("the kubelet writes the record") {
        return;
    }
    let mut world = World::own(&[]).await;
    let mark = format!("truncating-{:016x}", fastrand::u64(..));
    let id = world.api.run(&format!("exec -a {mark} sleep 600")).await;
    eventually(Duration::from_secs(30), "the task to run", async || {
        (processes(&mark) > 0).then_some(())
    })
    .await;
    let pods = std::fs::read_dir(world.state_dir().unwrap().join("pods")).unwrap();
    for pod in pods.flatten() {
        std::fs::write(pod.path().join("started.json"), "").unwrap();
    }
    world.server().kill();
    world.server().restart();
    assert_eq!(world.api.stop(&id).await.status, 200);
    eventually(Duration::from_secs(30), "the task to finish", async || {
        (processes(&mark) == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_restart_policy_restarts_containers_in_their_pod() {
    let world = World::own(&[]).await;
    let volume = json!([{"name": "kept", "emptyDir": {}}]);
    let container = json!({"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]});
    let script = |then: &str| format!("if [ -e /kept/once ]; then {then}; fi; echo first; : >/kept/once; exit 3");
    let spec = json!({"restartPolicy": "Always", "volumes": volume});
    let made: Pod = world.cluster.make(pod(&script("sleep 600"), &container, &spec)).await;
    let name = made.name_any();
    let status = eventually(Duration::from_secs(90), "the container to run again", async || {
        let status = world.cluster.api::<Pod>().get(&name).await.unwrap().status?;
        let container = status.container_statuses?.into_iter().next()?;
        (container.restart_count == 1 && container.state.as_ref()?.running.is_some()).then_some(container)
    })
    .await;
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert_eq!(phase(&world, &name).await, "Running");
    let api = world.cluster.api::<Pod>();
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    world
        .cluster
        .wait_until_gone::<Pod>(Duration::from_secs(60), &name)
        .await;
    let spec = json!({"restartPolicy": "OnFailure", "volumes": volume});
    let made: Pod = world.cluster.make(pod(&script("exit 0"), &container, &spec)).await;
    wait_for_phase(&world, &made.name_any(), "Succeeded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_termination_message_is_read_from_its_end() {
    if Backend::Cluster.lacks("the kubelet reads the message") {
        return;
    }
    let mut world = World::own(&[]).await;
    let script = "truncate -s 4G /dev/termination-log; echo why >>/dev/termination-log; exit 1";
    let made: Pod = world.cluster.make(pod(script, &json!({}), &json!({}))).await;
    let name = made.name_any();
    wait_for_phase(&world, &name, "Failed").await;
    let status = world.cluster.api::<Pod>().get(&name).await.unwrap().status.unwrap();
    let ended = status
        .container_statuses
        .unwrap()
        .remove(0)
        .state
        .unwrap()
        .terminated
        .unwrap();
    let words = ended.message.unwrap();
    assert!(words.ends_with("why\n") && words.len() <= 4096, "{} bytes", words.len());
    let server = std::fs::read_to_string(format!("/proc/{}/status", world.server().pid())).unwrap();
    let peak = server.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes < 1 << 20, "the server has used {peak}");
}

fn walk(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => walk(&entry.path()),
        _ => entry.metadata().map_or(0, |metadata| metadata.len()),
    };
    entries.map(size).sum()
}
