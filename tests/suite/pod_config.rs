//! Fields of the pod that a task sets, as far as the operator allows it.

use e2e::{Backend, World};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use task::TaskState;

fn task(pod_config: &Value, run: &str) -> Value {
    json!({"run": run, "config": {"kubernetes": {"pod_config": pod_config}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_fields_reach_the_pod() {
    let world = World::new().await;
    let config = json!({
        "metadata": {"labels": {"team": "vision"}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "containers": [{
                "env": [{"name": "FROM_POD", "value": "here"}],
                "volumeMounts": [{"name": "scratch", "mountPath": "/tmp/scratch"}],
            }],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    });
    let run = "echo $FROM_POD";
    for nodes in [1, 2] {
        let mut task = task(&config, run);
        task["num_nodes"] = json!(nodes);
        let id = world.api.submit(&task).await;
        let jobs = world.cluster.jobs(&id).await;
        let template = jobs[0].spec.as_ref().unwrap().template.clone();
        assert_eq!(template.metadata.unwrap().labels.unwrap()["team"], "vision");
        let pod = template.spec.unwrap();
        assert_eq!(pod.termination_grace_period_seconds, Some(5));
        assert_eq!(pod.tolerations.unwrap()[0].key.as_deref(), Some("gpu"));
        world.api.wait_for(&id, TaskState::Completed).await;
        assert_eq!(world.api.log_text(&id, "").await.matches("here").count(), nodes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_fields_are_refused_with_the_setting_that_allows_them() {
    let closed = World::new().await;
    let host = json!({"spec": {"hostNetwork": true}});
    let (path, _, message) = closed.api.try_submit(&task(&host, "true")).await.invalid();
    assert_eq!(path, "body.config.kubernetes.pod_config.spec.hostNetwork");
    assert!(
        message.contains("its operator can allow it with `--allow-pod-config spec.hostNetwork`"),
        "{message}"
    );
    let directory = json!({"spec": {"volumes": [{"name": "host", "hostPath": {"path": "/etc"}}]}});
    let (path, ..) = closed.api.try_submit(&task(&directory, "true")).await.invalid();
    assert_eq!(path, "body.config.kubernetes.pod_config.spec.volumes.0.hostPath");
    let secret = json!({"spec": {"containers": [{"envFrom": [{"secretRef": {"name": "of-another-user"}}]}]}});
    let (path, ..) = closed.api.try_submit(&task(&secret, "true")).await.invalid();
    assert_eq!(path, "body.config.kubernetes.pod_config.spec.containers.0.envFrom");
    let priority = json!({"run": "true", "resources": {"priority_class": "high"}});
    let (path, ..) = closed.api.try_submit(&priority).await.invalid();
    assert_eq!(path, "body.resources.priority_class");
    let open = World::own(&["--allow-pod-config", "spec.hostNetwork"]).await;
    let dry_run = open
        .api
        .post("/tasks/submit?dry_run=true", &task(&host, "true"))
        .await
        .ok();
    assert_eq!(dry_run["manifests"][0]["spec"]["template"]["spec"]["hostNetwork"], true);
    let refused = task(&json!({"spec": {"restartPolicy": "Always"}}), "true");
    let (_, _, message) = open.api.try_submit(&refused).await.invalid();
    assert!(message.contains("use `resources.job_recovery`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_chooses_among_the_service_accounts_that_are_allowed() {
    let by_field = |name: &str| task(&json!({"spec": {"serviceAccountName": name}}), "true");
    let by_identity = |name: &str| json!({"run": "true", "config": {"kubernetes": {"remote_identity": name}}});
    let world = World::own(&["--allow-service-account", "reader,writer"]).await;
    for body in [by_field("writer"), by_identity("writer")] {
        let dry_run = world.api.post("/tasks/submit?dry_run=true", &body).await.ok();
        let pod = &dry_run["manifests"][0]["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], "writer");
        assert_eq!(pod["automountServiceAccountToken"], true);
    }
    let kubernetes = "body.config.kubernetes";
    for (body, place) in [
        (
            by_field("admin"),
            format!("{kubernetes}.pod_config.spec.serviceAccountName"),
        ),
        (by_identity("admin"), format!("{kubernetes}.remote_identity")),
    ] {
        let (path, _, message) = world.api.try_submit(&body).await.invalid();
        assert_eq!(path, place);
        assert!(message.contains("`--allow-service-account admin`"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_kubernetes_rejects_is_the_tasks_mistake() {
    let world = World::new().await;
    let missing = json!({"spec": {"containers": [{"volumeMounts": [{"name": "nothing", "mountPath": "/x"}]}]}});
    let (path, _, message) = world.api.try_submit(&task(&missing, "true")).await.invalid();
    assert_eq!(path, "body.config.kubernetes.pod_config");
    assert!(message.contains("nothing"), "{message}");
    assert_eq!(world.cluster.all_jobs().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_priority_class_is_that_of_the_pods() {
    if Backend::Embedded.lacks("priority classes") {
        return;
    }
    let world = World::own(&["--allow-pod-config", "spec.priorityClassName"]).await;
    let name = format!("e2e-{:08x}", fastrand::u32(..));
    let class: PriorityClass = serde_json::from_value(json!({"metadata": {"name": name}, "value": 7})).unwrap();
    world
        .cluster
        .global()
        .create(&PostParams::default(), &class)
        .await
        .unwrap();
    let task = json!({"run": "true", "resources": {"priority_class": name}});
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Completed).await;
    let pods = world.cluster.pods().await;
    assert_eq!(pods[0].spec.as_ref().unwrap().priority, Some(7));
    world
        .cluster
        .global::<PriorityClass>()
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_named_with_the_image() {
    let world = World::new().await;
    let id = world.api.run("no-such-program --version").await;
    let status = world.api.wait_for(&id, TaskState::Failed).await;
    let message = status.message.unwrap();
    assert!(
        message.starts_with("the container exited with code 127: `no-such-program` is not in"),
        "{message}"
    );
    let log = world.api.log_text(&id, "").await;
    assert!(log.contains("line 1: no-such-program: command not found"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_memory_is_large() {
    let world = World::new().await;
    let id = world
        .api
        .run("head -c 100000000 /dev/zero >/dev/shm/k8s-cli-test && rm /dev/shm/k8s-cli-test && echo large")
        .await;
    world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(world.api.log_text(&id, "").await, "large\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sets_defaults_of_tasks() {
    let world = World::own(&["--default-image", "debian:13", "--default-requests", "skypilot"]).await;
    let pod = async |resources: Value| {
        let task = json!({"run": "true", "resources": resources});
        let answer = world.api.post("/tasks/submit?dry_run=true", &task).await.ok();
        answer["manifests"][0]["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let plain = pod(json!(null)).await;
    assert_eq!(plain["image"], "debian:13");
    assert_eq!(plain["resources"], json!({"requests": {"cpu": "2", "memory": "2Gi"}}));
    let cpus = pod(json!({"cpus": "1.5", "image_id": "alpine"})).await;
    assert_eq!(
        (&cpus["image"], &cpus["resources"]["requests"]["memory"]),
        (&json!("alpine"), &json!("1610612736"))
    );
    let gpus = pod(json!({"accelerators": 2})).await;
    assert_eq!(gpus["resources"]["requests"], json!({"cpu": "8", "memory": "32Gi"}));
}
