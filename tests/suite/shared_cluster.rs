//! Effects of a shared cluster on tasks: webhooks, sidecars, disruptions, quotas, policies, and lost connections.

use std::time::{Duration, Instant};

use e2e::{Answer, Backend, Cluster, Proxy, TaskBuilder, Webhook, World, eventually};
use futures::future::join_all;
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

const LIMIT: Duration = Duration::from_secs(60);

/// Adds fields to the specification of each pod that is created in the namespace.
async fn mutate_pods(cluster: &Cluster, expression: &str) -> String {
    let name = format!("e2e-{:08x}", fastrand::u32(..));
    let policy = json!({
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            },
            "reinvocationPolicy": "Never", "failurePolicy": "Fail",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    });
    let policy: MutatingAdmissionPolicy = serde_json::from_value(policy).unwrap();
    cluster.global().create(&PostParams::default(), &policy).await.unwrap();
    let binding: MutatingAdmissionPolicyBinding =
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"policyName": name}})).unwrap();
    cluster.global().create(&PostParams::default(), &binding).await.unwrap();
    // It takes effect a moment later.
    let probe = json!({"metadata": {"name": "probe"}, "spec": {"restartPolicy": "Never", "containers": [{
        "name": "task", "image": "docker.io/library/python:3.13-slim", "command": ["true"],
    }]}});
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let probe: Pod = serde_json::from_value(probe).unwrap();
    eventually(LIMIT, "the policy to take effect", async || {
        let pod = cluster
            .api::<Pod>()
            .create(&params, &probe)
            .await
            .unwrap()
            .spec
            .unwrap();
        (pod.containers.len() > 1 || pod.init_containers.is_some()).then_some(())
    })
    .await;
    name
}

async fn delete_policy(cluster: &Cluster, name: &str) {
    let params = DeleteParams::default();
    let _ = cluster
        .global::<MutatingAdmissionPolicyBinding>()
        .delete(name, &params)
        .await;
    let _ = cluster.global::<MutatingAdmissionPolicy>().delete(name, &params).await;
}

/// A sidecar in front of all containers that runs this script.
fn sidecar(script: &str) -> String {
    format!(
        r#"[JSONPatch{{op: "add", path: "/spec/containers/0", value: Object.spec.containers{{
            name: "a-sidecar", image: "docker.io/library/python:3.13-slim", command: ["/bin/bash", "-c", "{script}"]}}}}]"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_sidecar_does_not_affect_the_task() {
    if Backend::Embedded.lacks("admission policies, and pods with several containers") {
        return;
    }
    let world = World::own(&[]).await;
    let policy = mutate_pods(
        &world.cluster,
        &sidecar("trap 'exit 0' TERM; while :; do sleep 0.1; done"),
    )
    .await;
    let failing = world.api.run("echo out; exit 7").await;
    let succeeding = world.api.run("echo fine").await;
    let gang = TaskBuilder::new("echo ran").nodes(2).setup("true");
    let gang = world.api.submit(&gang).await;
    let status = world.api.wait_for(&failing, TaskState::Failed).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(7), "{status:?}");
    assert_eq!(world.api.log_text(&failing, "").await, "out\n");
    for id in [&succeeding, &gang] {
        let status = world.api.wait_for(id, TaskState::Completed).await;
        assert_eq!(status.metadata.nodes[0].exit_code, Some(0), "{status:?}");
    }
    eventually(LIMIT, "the sidecars to end with their tasks", async || {
        let pods = world.cluster.pods().await;
        let runs = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        (pods.iter().filter(runs).count() == 0).then_some(())
    })
    .await;
    // Later changes of their pods and Jobs must not change their states.
    for (id, state) in [
        (&failing, TaskState::Failed),
        (&succeeding, TaskState::Completed),
        (&gang, TaskState::Completed),
    ] {
        assert_eq!(world.api.status(id).await.status, state);
    }
    delete_policy(&world.cluster, &policy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_init_container_is_the_reason() {
    if Backend::Embedded.lacks("admission policies, and init containers") {
        return;
    }
    let world = World::own(&[]).await;
    let failing = r#"[JSONPatch{op: "add", path: "/spec/initContainers", value: [Object.spec.initContainers{
        name: "check", image: "docker.io/library/python:3.13-slim", command: ["/bin/bash", "-c", "exit 3"]}]}]"#;
    let policy = mutate_pods(&world.cluster, failing).await;
    let id = world.api.run("echo never").await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("InitContainerFailed"), "{status:?}");
    let message = status.message.unwrap();
    assert!(message.contains("`check` exited with code 3"), "{message}");
    for query in ["", "?follow=false"] {
        let log = tokio::time::timeout(Duration::from_secs(20), world.api.log_text(&id, query)).await;
        assert_eq!(log.expect("the log must end"), "");
    }
    delete_policy(&world.cluster, &policy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_task_that_never_started_ends() {
    if Backend::Embedded.lacks("images are not used: the host is the image") {
        return;
    }
    let world = World::own(&[]).await;
    let task = TaskBuilder::new("true")
        .max_duration("3s")
        .image("localhost:1/not/there:1");
    let id = world.api.submit(&task).await;
    let log = tokio::time::timeout(LIMIT, world.api.log_text(&id, "")).await;
    assert_eq!(log.expect("the log must end"), "");
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    let log = tokio::time::timeout(Duration::from_secs(20), world.api.log_text(&id, "?follow=false")).await;
    assert_eq!(log.expect("the log must end"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_task_that_exits_with_0_is_retried() {
    let world = World::own(&[]).await;
    let polite =
        "trap 'exit 0' TERM; if [ ! -e /data/once ]; then touch /data/once; echo once; while :; do sleep 0.1; done; fi";
    world.api.create_small_volume("once").await;
    let recovers = TaskBuilder::new(polite).volume("/data", "once").recovery("FAILOVER");
    let recovers = world.api.submit(&recovers).await;
    let plain = TaskBuilder::new("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let gang = world.api.submit(&plain.clone().nodes(2)).await;
    let plain = world.api.submit(&plain).await;
    for id in [&recovers, &plain] {
        world.api.wait_for(id, TaskState::Running).await;
    }
    world.api.wait_for_nodes(&gang, TaskState::Running).await;
    world.api.wait_for_log(&recovers, |log| log == "once\n").await;
    let pods = world.cluster.pods().await;
    let of = |id: &str| {
        pods.iter()
            .find(|pod| pod.labels()["task-id"] == *id)
            .unwrap()
            .name_any()
    };
    for id in [&recovers, &plain, &gang] {
        world.cluster.evict(&of(id)).await;
    }
    let recovered = world.api.wait_for(&recovers, TaskState::Completed).await;
    assert_eq!(recovered.metadata.nodes[0].attempt, 2);
    for id in [&plain, &gang] {
        let status = world.api.wait_for(id, TaskState::Failed).await;
        assert!(
            matches!(status.reason.as_deref(), Some("EvictionByEvictionAPI" | "PodDeleted")),
            "{status:?}"
        );
    }
    // No node keeps running for a finished task.
    let none_runs = |status: &TaskStatus| status.metadata.running_nodes == 0;
    world
        .api
        .wait_for_status(&gang, LIMIT, "the other node to end", none_runs)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gangs_complete_with_a_quota_for_one() {
    if Backend::Embedded.lacks("its quotas count Jobs only") {
        return;
    }
    let world = World::own(&[]).await;
    world.cluster.set_quota(json!({"pods": "2"})).await;
    let task = TaskBuilder::new("echo ran").nodes(2);
    let ids = join_all((0..2).map(|_| world.api.submit(&task))).await;
    for id in &ids {
        eventually(Duration::from_secs(180), "both to end", async || {
            let status = world.api.status(id).await;
            // Finished tasks keep their pods, and so their part of the quota.
            if status.status == TaskState::Completed {
                world.api.stop(id).await;
                return Some(());
            }
            None
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_creates_one_task_on_several_servers() {
    let world = World::own(&[]).await;
    let (_other, second) = world.another(&world.kubeconfig(), &[]);
    for round in 0..5 {
        let key = format!("key-{round}-{:x}", fastrand::u64(..));
        let tasks = [
            TaskBuilder::new("true").name("a"),
            TaskBuilder::new("true").name("b"),
            TaskBuilder::new("true").name("a").nodes(2),
            TaskBuilder::new("true"),
        ];
        let submits = tasks.iter().enumerate().map(|(index, task)| {
            let api = if index % 2 == 0 { &world.api } else { &second };
            api.submit_once(&key, task)
        });
        let answers: Vec<_> = join_all(submits).await.into_iter().map(Option::unwrap).collect();
        let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert_eq!(made.len(), 1, "{answers:?}");
        assert!(
            answers.iter().all(|answer| matches!(answer.status, 200 | 409)),
            "{answers:?}"
        );
        let id = made[0].clone().task_id();
        // The other server may have created it.
        eventually(LIMIT, "the task to be seen", async || {
            (world.api.try_status(&id).await.status == 200).then_some(())
        })
        .await;
        world.api.wait_for(&id, TaskState::Completed).await;
        let log = tokio::time::timeout(LIMIT, world.api.log_text(&id, "?follow=false")).await;
        assert_eq!(log.expect("the log must end"), "");
    }
    assert_eq!(world.api.task_ids().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_try_does_not_undo_a_retried_submit() {
    if Backend::Embedded.lacks("webhooks") {
        return;
    }
    for nodes in [1, 2] {
        let world = World::own(&[]).await;
        // The first create of a Job takes longer than the first try may.
        let webhook = Webhook::slow(&world.cluster, 1, Duration::from_secs(28)).await;
        let task = TaskBuilder::new("sleep 600").name("once").nodes(nodes);
        let first = tokio::spawn({
            let (api, task) = (world.api.clone(), task.clone());
            async move { api.submit_once("key", &task).await }
        });
        eventually(LIMIT, "the first try to hang", async || {
            (webhook.requests() > 0).then_some(())
        })
        .await;
        let (_server, second) = world.another(&world.kubeconfig(), &[]);
        let id = second.submit_once("key", &task).await.unwrap().task_id();
        let first = first.await.unwrap().unwrap();
        assert!(first.status != 200 || first.body["task_id"] == id.as_str(), "{first:?}");
        webhook.remove().await;
        eventually(LIMIT, "the task to be seen", async || {
            (world.api.try_status(&id).await.status == 200).then_some(())
        })
        .await;
        world.api.wait_for(&id, TaskState::Running).await;
        // The first try may still delete objects for less time than this.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.api.status(&id).await.status, TaskState::Running);
        assert_eq!(world.api.task_ids().await, [id]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_times_out_is_named() {
    if Backend::Embedded.lacks("webhooks") {
        return;
    }
    let world = World::own(&[]).await;
    let slow = Webhook::slow(&world.cluster, 1, Duration::from_secs(12)).await;
    assert!(!world.api.run("true").await.is_empty());
    assert_eq!(slow.requests(), 1, "the create was not repeated");
    slow.remove().await;
    let stuck = Webhook::slow(&world.cluster, 100, Duration::from_secs(40)).await;
    let detail = world.api.try_submit(&TaskBuilder::new("true")).await.error(500);
    assert!(detail.contains(&stuck.name()), "{detail}");
    stuck.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_watches_do_not_cause_stale_responses() {
    let world = World::own(&[]).await;
    let proxy = Proxy::start(&world.kubeconfig()).await;
    let (_server, behind) = world.another(proxy.kubeconfig(), &[]);
    assert_eq!(behind.get("/readyz").await.status, 200);
    for _ in 0..2 {
        proxy.silence();
        let id = world.api.run("sleep 600").await;
        let made = Instant::now();
        let answers = eventually(LIMIT, "the server to see changes again", async || {
            let answer = behind.try_status(&id).await;
            // The limit is 10 s; a busy machine may need a moment for the response itself.
            if made.elapsed() > Duration::from_secs(11) {
                assert_ne!(answer.status, 404, "the response is stale after {:?}", made.elapsed());
            }
            (answer.status == 200).then_some(answer)
        })
        .await;
        assert_eq!(answers.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_held_by_a_finalizer_ends_the_pods() {
    let mut world = World::own(&[]).await;
    let id = world.api.run("sleep 600").await;
    world.api.wait_for(&id, TaskState::Running).await;
    let name = world.cluster.jobs(&id).await[0].name_any();
    let jobs = world.cluster.api::<Job>();
    let finalizers = async |names: Value| {
        let change = Patch::Merge(json!({"metadata": {"finalizers": names}}));
        jobs.patch(&name, &PatchParams::default(), &change).await.unwrap();
    };
    finalizers(json!(["example.com/audit"])).await;
    assert_eq!(world.api.stop(&id).await.status, 200);
    let terminating = async |world: &World| {
        let status = world.api.status(&id).await;
        assert_eq!(status.reason.as_deref(), Some("Terminating"), "{status:?}");
        assert!(
            status.message.as_deref().unwrap().contains("example.com/audit"),
            "{status:?}"
        );
        status
    };
    terminating(&world).await;
    world.server().kill();
    world.server().restart();
    terminating(&world).await;
    eventually(LIMIT, "the pod to end", async || {
        (terminating(&world).await.metadata.running_nodes == 0).then_some(())
    })
    .await;
    assert_eq!(world.api.post("/tasks/stop", &Value::Null).await.ok()["count"], 0);
    finalizers(Value::Null).await;
    eventually(LIMIT, "the task to be deleted", async || {
        (world.api.try_status(&id).await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_security_restricted_runs_under_that_standard() {
    if Backend::Embedded.lacks("Pod Security Standards") {
        return;
    }
    let restricted = World::own(&["--pod-security", "restricted"]).await;
    let enforce = async |world: &World| {
        let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let namespaces = world.cluster.global::<Namespace>();
        let (name, params) = (&world.cluster.namespace, PatchParams::default());
        namespaces.patch(name, &params, &Patch::Merge(labels)).await.unwrap();
        // kube-apiserver learns about it from a watch.
        let pod = json!({"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "task", "image": "none"}]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        eventually(LIMIT, "the standard to take effect", async || {
            world.cluster.api::<Pod>().create(&params, &pod).await.err().map(drop)
        })
        .await;
    };
    enforce(&restricted).await;
    let id = restricted.api.run("id -u").await;
    restricted.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(restricted.api.log_text(&id, "").await, "1000\n");
    let open = World::own(&[]).await;
    enforce(&open).await;
    for nodes in [1, 2] {
        let refused = open.api.try_submit(&TaskBuilder::new("true").nodes(nodes)).await;
        let detail = refused.error(500);
        assert!(
            detail.contains("--pod-security restricted") && detail.contains("`restricted`"),
            "{detail}"
        );
    }
    assert_eq!(open.api.task_ids().await, Vec::<String>::new());
    eventually(LIMIT, "nothing to be left", async || {
        open.cluster.all_jobs().await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_by_readyz_and_the_task() {
    if Backend::Embedded.lacks("permissions") {
        return;
    }
    let mut world = World::own(&[]).await;
    let namespace = world.cluster.namespace.clone();
    let _: ServiceAccount = world.cluster.make(json!({"metadata": {"name": "limited"}})).await;
    let rules = json!([
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["create", "get", "list", "watch", "delete"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
    ]);
    let _: Role = world
        .cluster
        .make(json!({"metadata": {"name": "limited"}, "rules": rules}))
        .await;
    let _: RoleBinding = world
        .cluster
        .make(json!({
            "metadata": {"name": "limited"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limited"},
            "subjects": [{"kind": "ServiceAccount", "name": "limited", "namespace": namespace}],
        }))
        .await;
    let kubeconfig = world.cluster.kubeconfig_of("limited").await;
    let (_server, limited) = world.another(&kubeconfig, &[]);
    let detail = limited.get("/readyz").await.error(503);
    assert!(detail.contains("`patch` on `pods`"), "{detail}");
    // The other server has all permissions, and would start the nodes.
    world.server().kill();
    let gang = limited.submit(&TaskBuilder::new("true").nodes(2)).await;
    let is_forbidden = |status: &TaskStatus| {
        let message = status.message.as_deref().unwrap_or_default();
        message.contains("forbidden")
    };
    limited
        .wait_for_status(&gang, LIMIT, "the reason to be the permission", is_forbidden)
        .await;
    let rights =
        json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]}]});
    let mut more = rules.as_array().unwrap().clone();
    more.extend(rights["rules"].as_array().unwrap().clone());
    let change = Patch::Merge(json!({"rules": more}));
    world
        .cluster
        .api::<Role>()
        .patch("limited", &PatchParams::default(), &change)
        .await
        .unwrap();
    limited.wait_for(&gang, TaskState::Completed).await;
    eventually(LIMIT, "the server to be ready", async || {
        (limited.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    let _ = std::fs::remove_file(kubeconfig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_does_not_start_without_its_namespace() {
    let world = World::own(&[]).await;
    let output = e2e::Server::command(&["--backend", "cluster", "--namespace", "not-there"])
        .env("KUBECONFIG", world.kubeconfig())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && stderr.contains("namespace `not-there` not found"),
        "{stderr}"
    );
}
