//! Secrets of a task: they reach its processes, and nothing else shows them.

use std::time::Duration;

use e2e::{CommandLine, World, eventually, raw};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::api::ListParams;
use serde_json::{Value, json};
use task::TaskState;

const CANARY: &str = "canary-8f3a5c";

fn with_secret(run: &str) -> Value {
    json!({
        "name": "secretive",
        "run": run,
        "setup": "export FROM_SETUP=${#TOKEN}",
        "secrets": {"TOKEN": CANARY, "N": 7},
    })
}

/// All objects of the namespace that can show a secret, as JSON, except the Secrets.
async fn all_objects(world: &World) -> String {
    let params = ListParams::default();
    let jobs = serde_json::to_string(&world.cluster.all_jobs().await).unwrap();
    let pods = world.cluster.api::<Pod>().list(&params).await.unwrap().items;
    let maps = world.cluster.api::<ConfigMap>().list(&params).await.unwrap().items;
    let events = world.cluster.api::<Event>().list(&params).await.unwrap().items;
    let others = serde_json::to_string(&(pods, maps, events)).unwrap();
    jobs + &others
}

async fn secrets(world: &World) -> Vec<Secret> {
    let params = ListParams::default().labels("skypilot-task=true");
    world.cluster.api::<Secret>().list(&params).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_the_nodes_and_is_shown_nowhere() {
    let world = World::own(&[]).await;
    // The script itself must not contain the secret.
    let check = r#"[ "${TOKEN%%-*}" = canary ] || exit 9; echo "right $N $FROM_SETUP""#;
    let mut gang = with_secret(check);
    gang["num_nodes"] = json!(2);
    let single = world.api.submit(&with_secret(check)).await;
    let gang = world.api.submit(&gang).await;
    let mut shown = all_objects(&world).await;
    for id in [&single, &gang] {
        world.api.wait_for(id, TaskState::Completed).await;
        let log = world.api.log_text(id, "").await;
        assert!(log.contains(&format!("right 7 {}", CANARY.len())), "{log}");
        shown += &log;
        shown += &world.api.try_status(id).await.ok().to_string();
    }
    shown += &world.api.get("/tasks").await.ok().to_string();
    shown += &all_objects(&world).await;
    shown += &String::from_utf8_lossy(&raw(world.api.base(), "GET", "/metrics", &[], None).body);
    let dry_run = world
        .api
        .post("/tasks/submit?dry_run=true", &with_secret("true"))
        .await
        .ok();
    assert!(dry_run.to_string().contains("<redacted>"), "{dry_run}");
    shown += &dry_run.to_string();
    for wrong in [
        json!({"secrets": {"TOKEN": CANARY}}),
        json!({"run": "true", "envs": {"TOKEN": "1"}, "secrets": {"TOKEN": CANARY}}),
        json!({"run": "true", "secrets": {"TOKEN": [CANARY]}}),
        json!({"run": "true", "secrets": [CANARY]}),
    ] {
        let answer = world.api.try_submit(&wrong).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        shown += &answer.body.to_string();
    }
    assert!(!shown.contains(CANARY));
    let stored = secrets(&world).await;
    assert_eq!(stored.len(), 2);
    let value = |secret: &Secret| secret.data.as_ref().unwrap()["TOKEN"].0.clone();
    assert!(stored.iter().all(|secret| value(secret) == CANARY.as_bytes()));
    for id in [&single, &gang] {
        let _ = world.api.stop(id).await.ok();
    }
    eventually(
        Duration::from_secs(60),
        "the Secrets to be deleted with their tasks",
        async || secrets(&world).await.is_empty().then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_submit_with_secrets_is_one_task() {
    let world = World::new().await;
    let task = with_secret("true");
    let first = world.api.submit_once("a-key", &task).await.unwrap().task_id();
    let mut other = task.clone();
    other["secrets"]["TOKEN"] = json!("another value");
    for repeated in [&task, &other] {
        // Secret values are not compared: their hash would be stored with the task.
        assert_eq!(world.api.submit_once("a-key", repeated).await.unwrap().task_id(), first);
    }
    other["secrets"]["MORE"] = json!("x");
    assert_eq!(world.api.submit_once("a-key", &other).await.unwrap().status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_login_becomes_a_pull_secret() {
    let world = World::new().await;
    let task = json!({
        "run": "echo \"$SKYPILOT_DOCKER_USERNAME\"",
        "envs": {"SKYPILOT_DOCKER_SERVER": "ghcr.io", "SKYPILOT_DOCKER_USERNAME": "me"},
        "secrets": {"SKYPILOT_DOCKER_PASSWORD": CANARY},
    });
    let dry_run = world.api.post("/tasks/submit?dry_run=true", &task).await.ok();
    let manifests = dry_run["manifests"].as_array().unwrap();
    let of_kind = |kind: &str| {
        manifests
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect::<Vec<_>>()
    };
    let secrets = of_kind("Secret");
    assert_eq!(secrets[1]["type"], "kubernetes.io/dockerconfigjson");
    let pull_secrets = &of_kind("Job")[0]["spec"]["template"]["spec"]["imagePullSecrets"];
    assert_eq!(pull_secrets[0]["name"], secrets[1]["metadata"]["name"]);
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(world.api.log_text(&id, "").await, "me\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_takes_secrets_from_the_environment_and_from_files() {
    let world = World::new().await;
    let mut cli = CommandLine::of(&world);
    cli.write(
        "task.yaml",
        "secrets: {TOKEN: null}\nrun: echo ${#TOKEN} ${#OTHER} ${#THIRD}\n",
    );
    let missing = cli.run(&["jobs", "submit", "task.yaml"]).failed(2);
    assert!(missing.contains("set it with `--secret TOKEN=VALUE`"), "{missing}");
    let unset = cli.run(&["jobs", "submit", "--secret", "TOKEN", "task.yaml"]).failed(2);
    assert!(unset.contains("`TOKEN` is not set in your environment"), "{unset}");
    cli.set("TOKEN", CANARY);
    cli.write("secrets.env", "OTHER=abc\nTHIRD=x\n");
    let flags = [
        "jobs",
        "submit",
        "--secret",
        "TOKEN",
        "--secret-file",
        "secrets.env",
        "--secret",
        "THIRD=xy",
        "task.yaml",
    ];
    let ran = cli.run(&flags);
    assert!(!ran.stderr.contains(CANARY));
    assert_eq!(ran.ok(), format!("{} 3 2\n", CANARY.len()));
    let dry_run = cli.run(&[&flags[..], &["--dry-run"]].concat()).ok();
    assert!(!dry_run.contains(CANARY) && dry_run.contains("TOKEN"), "{dry_run}");
    cli.write("wrong.yaml", &format!("secrets: {{TOKEN: [{CANARY}]}}\nrun: true\n"));
    let error = cli.run(&["jobs", "submit", "wrong.yaml"]).failed(2);
    assert!(!error.contains(CANARY) && error.contains("wrong.yaml:1"), "{error}");
}
