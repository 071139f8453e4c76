//! Task files with GPUs run on a cluster node that has the model. Runs alone: the node changes for all tests.

use std::path::Path;

use e2e::{Backend, CommandLine, World};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use task::TaskState;

/// The label in which NVIDIA's device plugin names the model.
const PRODUCT: &str = "nvidia.com/gpu.product";

/// A model as its nodes are labeled, the resource of its GPUs, and the task files that run on it.
const MODELS: [(&str, &str, &[&str]); 7] = [
    (
        "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu",
        &["gpus-alias", "any-of-models", "ordered-models", "accelerators-set"],
    ),
    (
        "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu",
        &["accelerators-count", "any-of-models", "ordered-models"],
    ),
    ("NVIDIA-L4", "nvidia.com/gpu", &["accelerators-list", "use-spot"]),
    ("NVIDIA-A10G", "nvidia.com/gpu", &["accelerators-list"]),
    ("Tesla-T4", "nvidia.com/gpu", &["accelerators-fraction"]),
    (
        "NVIDIA-L40S",
        "nvidia.com/gpu",
        &["instance-type-sky", "accelerators-set"],
    ),
    ("MI300X", "amd.com/gpu", &["accelerators-amd"]),
];

/// Advertises these GPUs on the node, as a device plugin does, or removes them.
async fn advertise(nodes: &Api<Node>, name: &str, resource: &str, model: Option<&str>) {
    let count = model.map(|_| "8");
    let status = json!({"status": {"capacity": {resource: count}, "allocatable": {resource: count}}});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    let labels = json!({"metadata": {"labels": {PRODUCT: model}}});
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(&labels))
        .await
        .unwrap();
}

/// The file with a script that needs nothing but bash.
fn with_short_script(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("task_files/{file}.yaml"));
    let text = std::fs::read_to_string(path).unwrap();
    let end = ["\nsetup:", "\nrun:", "\nenvs:"]
        .iter()
        .filter_map(|key| text.find(key))
        .min()
        .unwrap();
    format!("{}\nrun: echo \"$SKYPILOT_NUM_GPUS_PER_NODE GPUs\"\n", &text[..end])
}

#[tokio::test(flavor = "multi_thread")]
async fn task_files_with_gpus_run_on_the_node_that_has_the_model() {
    if Backend::Embedded.lacks("GPUs of this machine have no labels") {
        return;
    }
    let mut ran = 0;
    for (model, resource, files) in MODELS {
        // A new server reads the labels of the nodes at once.
        let world = World::own(&[]).await;
        let nodes: Api<Node> = world.cluster.global();
        let node = nodes.list(&ListParams::default()).await.unwrap().items[0].name_any();
        advertise(&nodes, &node, resource, Some(model)).await;
        let cli = CommandLine::of(&world);
        for file in files {
            let name = format!("{file}.yaml");
            cli.write(&name, &with_short_script(file));
            // The model is what counts: no test machine has as many CPUs.
            let small = ["--cpus", "0.1", "--memory", "0.1", "--image", "python:3.13-slim"];
            let submitted = cli.run(&[&["jobs", "submit", "-q", &name], &small[..]].concat());
            let id = submitted.ok().trim().to_owned();
            let status = world.api.wait_for(&id, TaskState::Completed).await;
            assert_eq!(
                status.metadata.nodes[0].node_name.as_deref(),
                Some(node.as_str()),
                "{file} on {model}"
            );
            assert!(
                world.api.log_text(&id, "").await.ends_with(" GPUs\n"),
                "{file} on {model}"
            );
            let _ = world.api.stop(&id).await.ok();
            ran += 1;
        }
        let other = json!({"run": "true", "resources": {"accelerators": "Z9000:1"}});
        if resource == "nvidia.com/gpu" {
            let (place, _, message) = world.api.try_submit(&other).await.invalid();
            assert_eq!(place, "body.resources", "{message}");
        }
        advertise(&nodes, &node, resource, None).await;
    }
    println!("{ran} task files with GPUs ran to their end");
    assert!(Value::from(ran).as_u64() >= Some(14));
}
