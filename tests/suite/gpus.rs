//! Accelerators by model, and alternatives. The cluster nodes with GPUs are simulated by kwok.

use e2e::{CommandLine, TaskBuilder, World};
use serde_json::{Value, json};

async fn dry_run(world: &World, resources: Value) -> Value {
    let task = json!({"run": "true", "resources": resources});
    world.api.post("/tasks/submit?dry_run=true", &task).await.ok()
}

fn pod(dry_run: &Value) -> &Value {
    let manifests = dry_run["manifests"].as_array().unwrap();
    let job = manifests.iter().find(|object| object["kind"] == "Job").unwrap();
    &job["spec"]["template"]["spec"]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_has_is_said_at_once() {
    let world = World::new().await;
    let too_large = world.api.request(reqwest::Method::POST, "/tasks/submit?dry_run=true");
    let response = too_large
        .json(&TaskBuilder::new("true").cpus(100_000))
        .send()
        .await
        .unwrap();
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(
        warning.contains("no cluster node has 100000 CPUs (at most "),
        "{warning}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_alternative_that_fits_is_used() {
    let world = World::new().await;
    let resources = json!({"memory": "10Mi", "ordered": [{"cpus": 100_000}, {"cpus": "100m"}, {"cpus": "50m"}]});
    let dry_run = dry_run(&world, resources).await;
    assert_eq!(pod(&dry_run)["containers"][0]["resources"]["requests"]["cpu"], "100m");
    let elsewhere = json!({"run": "true", "resources": {"any_of": [{"infra": "aws"}, {"cloud": "gcp"}]}});
    let (_, _, message) = world.api.try_submit(&elsewhere).await.invalid();
    assert!(
        message.contains("no alternative is on Kubernetes: `any_of.0` is on `aws`"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_gpus_has_an_empty_list() {
    let world = World::new().await;
    assert_eq!(world.api.get("/gpus").await.ok(), json!({"gpus": []}));
    let cli = CommandLine::of(&world);
    for command in [&["gpus"][..], &["show-gpus"], &["gpus", "list"]] {
        assert!(cli.run(command).stderr.contains("no GPUs found"));
    }
    assert_eq!(cli.run(&["gpus", "-o", "json"]).parsed::<Value>(), json!({"gpus": []}));
}
