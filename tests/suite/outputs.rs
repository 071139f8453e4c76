//! What a task wrote is kept when it ends, and can be downloaded.

use std::fs;

use ::files::{ContentHash, Contents, Limits, Manifest, PackReader, Unpack};
use bytes::Bytes;
use e2e::{Api, Backend, World, eventually, small_task};
use reqwest::Method;
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;
use tempfile::TempDir;

use super::files::{LIMIT, upload, with_files};
use super::large_files::{fetching, token_of};

/// A task that starts in a folder that it may write to.
async fn task(world: &World, run: &str, outputs: Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("given"), "x").unwrap();
    let id = upload(&world.api, folder.path()).await;
    let mut task = with_files(run, json!({".": id}));
    task["outputs"] = outputs;
    task["resources"] = json!({});
    task
}

async fn end_of(world: &World, id: &str) -> TaskStatus {
    let is_final = |status: &TaskStatus| status.status.is_final();
    world.api.wait_for_status(id, LIMIT, "the end", is_final).await
}

/// Downloads the outputs of a task as the CLI does.
async fn download(api: &Api, id: &str) -> TempDir {
    let outputs = format!("/tasks/{id}/outputs");
    let set = api.get(&outputs).await.ok();
    let request = api.request(Method::GET, &format!("{outputs}/manifest"));
    let manifest = request.send().await.unwrap().bytes().await.unwrap();
    let manifest = Manifest::parse(&manifest, &Limits::NONE).unwrap();
    assert_eq!(set["files"], manifest.hash().to_string());
    let mut contents = Vec::new();
    for content in manifest.entries().iter().flat_map(|entry| entry.kind.contents()) {
        let request = api.request(Method::POST, &format!("{outputs}/contents"));
        let request = request.json(&json!({"contents": [content.hash()]}));
        let mut pack = PackReader::new();
        pack.push(&request.send().await.unwrap().bytes().await.unwrap());
        contents.push(pack.take().unwrap().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut contents = contents.into_iter();
    let mut read = |_: &::files::Content| -> std::io::Result<Bytes> { Ok(contents.next().unwrap()) };
    let unpack = Unpack {
        writable: true,
        resume: false,
    };
    unpack
        .write(&manifest, folder.path(), &mut read as &mut dyn Contents, |_| {})
        .unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outputs_of_the_first_node_outlive_the_task() {
    let (world, _archive) = fetching(&[]).await;
    let run =
        "mkdir -p out/deep; echo $NODE_RANK >out/deep/rank; ln -s deep/rank out/link; ln -s /etc/passwd out/passwd
        head -c 9000000 /dev/urandom >model.bin; sha256sum <model.bin; env | grep K8S_CLI_FILES; true";
    let outputs = json!({
        "./results/run": "out", "model.bin": "./model.bin", "none": "none", "linked": "~/sky_workdir/out/link",
    });
    let mut task = task(&world, run, outputs).await;
    task["num_nodes"] = json!(2);
    let id = world.api.submit(&task).await;
    let status = end_of(&world, &id).await;
    let log = world.api.log_text(&id, "?node=0").await;
    assert_eq!(status.status, TaskState::Completed, "{log} {status:?}");
    let sum = log.split_whitespace().find(|word| word.len() == 64).unwrap();
    assert!(log.contains("[k8s-cli: the output `none` does not exist]\n"), "{log}");
    assert!(log.contains("links out of it): `passwd`]\n"), "{log}");
    assert!(log.contains("[k8s-cli: kept `results/run`, `model.bin`"), "{log}");
    assert!(!log.contains("K8S_CLI_FILES"), "{log}");
    assert!(!log.contains("not kept"), "{log}");
    assert!(!world.api.log_text(&id, "?node=1").await.contains("kept"));
    let check = async || {
        let folder = download(&world.api, &id).await;
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(text("results/run/deep/rank"), "0\n");
        assert_eq!(text("results/run/link"), "0\n");
        let model = fs::read(folder.path().join("model.bin")).unwrap();
        assert_eq!(ContentHash::of(&model).to_string(), sum);
        assert!(!folder.path().join("results/run/passwd").exists());
    };
    check().await;
    let _ = world.api.stop(&id).await.ok();
    eventually(LIMIT, "the task to be gone", async || {
        (world.api.try_status(&id).await.status == 404).then_some(())
    })
    .await;
    check().await;
    let path = format!("/tasks/{id}/outputs");
    assert_eq!(world.api.as_user("bob").delete(&path).await.status, 404);
    for path in [path.clone(), format!("{path}/manifest")] {
        let others = world.api.as_user("bob").get(&path).await.error(404);
        assert_eq!(others, format!("Task {id} not found"));
    }
    let _ = world.api.delete(&path).await.ok();
    let nothing = world.api.get(&path).await.error(404);
    assert_eq!(nothing, format!("Task {id} has kept no outputs"));
    let unknown = world.api.get("/tasks/00000000/outputs").await.error(404);
    assert_eq!(unknown, "Task 00000000 not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_keeps_its_outputs_and_its_exit_code() {
    let (world, _archive) = fetching(&[]).await;
    let task = task(
        &world,
        "echo half >half; sleep 1.1; echo >lost; exit 6",
        json!({"half": "half"}),
    )
    .await;
    let id = world.api.submit(&task).await;
    let status = end_of(&world, &id).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(6), "{status:?}");
    let folder = download(&world.api, &id).await;
    assert_eq!(fs::read_to_string(folder.path().join("half")).unwrap(), "half\n");
    let log = world.api.log_text(&id, "").await;
    assert!(
        log.contains("written to the working folder and not kept: `lost`; "),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_node_keeps_its_outputs_after_another_one_has_failed() {
    let (world, _archive) = fetching(&[]).await;
    let run = "[ $NODE_RANK = 0 ] || exit 3; sleep 600";
    let mut task = task(&world, run, json!({"out": "out"})).await;
    // Before any node runs, so before one fails.
    task["setup"] = json!("echo saved >out");
    task["num_nodes"] = json!(2);
    let id = world.api.submit(&task).await;
    let status = end_of(&world, &id).await;
    assert_eq!(status.status, TaskState::Failed, "{status:?}");
    let kept = format!("/tasks/{id}/outputs");
    eventually(LIMIT, "the outputs to be kept", async || {
        if world.api.get(&kept).await.status == 200 {
            return Some(());
        }
        let log = world.api.log_text(&id, "").await;
        assert!(!log.contains("cannot keep the outputs"), "{log}");
        None
    })
    .await;
    let folder = download(&world.api, &id).await;
    assert_eq!(fs::read_to_string(folder.path().join("out")).unwrap(), "saved\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_keeps_its_outputs_in_place_of_those_before() {
    let (world, _archive) = fetching(&[]).await;
    let run = "echo $RANDOM$RANDOM >out; cat out; exit 1";
    let mut task = task(&world, run, json!({"out": "out"})).await;
    task["resources"]["job_recovery"] = json!({"max_restarts_on_errors": 1});
    let id = world.api.submit(&task).await;
    let _ = end_of(&world, &id).await;
    let log = world.api.log_text(&id, "").await;
    let folder = download(&world.api, &id).await;
    let kept = fs::read_to_string(folder.path().join("out")).unwrap();
    let numbers: Vec<&str> = log.lines().filter(|line| !line.contains("[k8s-cli")).collect();
    assert!(numbers.len() == 2 && numbers[1].ends_with(kept.trim()), "{log} {kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_that_writes_nothing_has_no_outputs() {
    let (world, _archive) = fetching(&[]).await;
    let volume = world.api.create_small_volume("once-more").await;
    let run = "mkdir /data/second || exit 0; echo half >out; exit 1";
    let mut task = task(&world, run, json!({"out": "out"})).await;
    task["volumes"] = json!({"/data": "once-more"});
    task["resources"]["job_recovery"] = json!({"max_restarts_on_errors": 1});
    let id = world.api.submit(&task).await;
    let status = end_of(&world, &id).await;
    let log = world.api.log_text(&id, "").await;
    assert_eq!(status.status, TaskState::Completed, "{log}");
    assert!(log.contains("[k8s-cli: kept `out`"), "{log}");
    assert!(
        log.contains("[k8s-cli: kept nothing; outputs of earlier attempts"),
        "{log}"
    );
    let nothing = world.api.get(&format!("/tasks/{id}/outputs")).await.error(404);
    assert_eq!(nothing, format!("Task {id} has kept no outputs"));
    let _ = world.api.stop(&id).await.ok();
    let _ = world.api.delete_volume(&volume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_cannot_be_kept_does_not_lose_the_others() {
    let (world, _archive) = fetching(&[]).await;
    let run = "echo saved >model; mkfifo pipe";
    let outputs = json!({"pipe": "pipe", "model": "model", "none": "model/x"});
    let id = world.api.submit(&task(&world, run, outputs).await).await;
    let status = end_of(&world, &id).await;
    let log = world.api.log_text(&id, "").await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(1), "{log} {status:?}");
    assert!(log.contains("cannot keep the outputs: `pipe`: "), "{log}");
    assert!(
        log.contains("/model/x` does not exist]\n") || log.contains("`model/x` does not exist]\n"),
        "{log}"
    );
    let folder = download(&world.api, &id).await;
    assert_eq!(fs::read_to_string(folder.path().join("model")).unwrap(), "saved\n");
}

/// The status of the response to a node of an attempt that sends outputs: a manifest without entries.
async fn send_as_node(api: &Api, token: &str, attempt: Option<&str>) -> u16 {
    let empty = Manifest::empty();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.put(format!("{}/outputs/{}", api.base(), empty.hash()));
    if let Some(attempt) = attempt {
        request = request.header("k8s-cli-attempt", attempt);
    }
    let request = request.bearer_auth(token).body(empty.encode());
    request.send().await.unwrap().status().as_u16()
}

/// Kubernetes deletes the pod of a node that it does not reach, but the node may run on, and finish after its successor.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_attempt_does_not_replace_the_outputs_of_a_later_one() {
    let (world, _archive) = fetching(&[]).await;
    let volume = world.api.create_small_volume("once").await;
    let run = "echo $K8S_CLI_FILES_ATTEMPT >out; mkdir /data/second || sleep 600; exit 1";
    let mut task = task(&world, run, json!({"out": "out"})).await;
    task["volumes"] = json!({"/data": "once"});
    task["resources"]["job_recovery"] = json!({"max_restarts_on_errors": 1});
    let id = world.api.submit(&task).await;
    let token = token_of(&world, &id).await;
    let is_second = |status: &TaskStatus| status.status == TaskState::Running && status.metadata.attempts.len() == 1;
    let _ = world
        .api
        .wait_for_status(&id, LIMIT, "the second attempt", is_second)
        .await;
    assert_eq!(send_as_node(&world.api, &token, Some("1")).await, 403);
    let folder = download(&world.api, &id).await;
    let kept = fs::read_to_string(folder.path().join("out")).unwrap();
    assert_eq!(kept, "\n", "the run has the variable of the program that sends outputs");
    // The current attempt may, and one of an older server, which does not say which it is.
    for attempt in [Some("2"), None, Some("?")] {
        assert_eq!(send_as_node(&world.api, &token, attempt).await, 200, "{attempt:?}");
    }
    let _ = world.api.stop(&id).await.ok();
    let _ = world.api.delete_volume(&volume).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_whose_outputs_cannot_be_kept_is_a_failure() {
    let (world, _archive) = fetching(&["--max-user-files", "1"]).await;
    let id = world.api.submit(&task(&world, "true", json!({})).await).await;
    let _ = end_of(&world, &id).await;
    let nothing = world.api.get(&format!("/tasks/{id}/outputs")).await.error(404);
    assert_eq!(nothing, format!("Task {id} has kept no outputs"));
    let run = "head -c 3000000 /dev/urandom >model.bin";
    let task = task(&world, run, json!({"model.bin": "model.bin"})).await;
    let id = world.api.submit(&task).await;
    let status = end_of(&world, &id).await;
    let log = world.api.log_text(&id, "").await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(1), "{log} {status:?}");
    assert!(log.contains("[k8s-cli: cannot keep the outputs: "), "{log}");
    assert!(
        log.contains("status 422: the files take 2.8 MiB, more than the limit of 1 MiB;"),
        "{log}"
    );
    let message = status.message.unwrap_or_default();
    assert!(message.contains("cannot keep the outputs"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nodes_do_not_reach_says_what_outputs_need() {
    if Backend::Embedded.lacks("nodes of this machine reach the server") {
        return;
    }
    let world = World::own(&[]).await;
    let mut task = serde_json::to_value(small_task("true")).unwrap();
    task["outputs"] = json!({"out": "/tmp/out"});
    let (at, _, message) = world.api.try_submit(&task).await.invalid();
    assert_eq!(at, "body.outputs");
    assert!(
        message.contains("without `--helper-image`, `--advertise-url` and `--archive`"),
        "{message}"
    );
}
