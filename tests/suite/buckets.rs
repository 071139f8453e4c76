//! Nodes copy from buckets before their setup.
//!
//! On a cluster, this needs the image of `test-cluster/cluster helper`, and an address of this machine that pods reach.

use e2e::{Backend, Bucket, CommandLine, World, small_task};
use serde_json::{Value, json};
use task::TaskState;

/// An address of this machine that tasks reach.
fn host() -> String {
    match Backend::chosen() {
        Backend::Embedded => "127.0.0.1".to_owned(),
        // The address of the bridge of the test cluster.
        Backend::Cluster => std::env::var("K8S_CLI_E2E_HOST").unwrap_or_else(|_| "10.244.0.1".to_owned()),
    }
}

/// A world whose nodes copy.
async fn copying() -> World {
    let image =
        std::env::var("K8S_CLI_E2E_HELPER_IMAGE").unwrap_or_else(|_| "localhost/k8s-cli-helper:test".to_owned());
    match Backend::chosen() {
        Backend::Embedded => World::own(&[]).await,
        Backend::Cluster => World::own(&["--helper-image", &image]).await,
    }
}

/// A task that copies from a bucket at this address.
fn with_mounts(run: &str, endpoint: &str, mounts: Value) -> Value {
    let mut task = json!(small_task(run));
    task["file_mounts"] = mounts;
    task["envs"] = json!({"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"});
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_and_an_object_are_on_each_node_before_its_setup_and_again_after_a_retry() {
    let Some(bucket) = Bucket::start_on(&host()).await else {
        return;
    };
    for number in 0..200 {
        bucket
            .put(
                &format!("train/part%20{}/{number}", number % 7),
                format!("content {number}\n"),
            )
            .await;
    }
    bucket.put("train/", "").await;
    bucket.put("train/empty/", "").await;
    bucket.put("training/not-this", "x").await;
    // More than a pipe or a window of TCP holds.
    bucket.put("weights.bin", "w".repeat(20_000_000)).await;
    let world = copying().await;
    let cli = CommandLine::of(&world);
    // The first node that fails ends the others, but not before the setup of all has ended.
    let text = format!(
        "num_nodes: 2\nenvs: {{AWS_ENDPOINT_URL: 'http://{}', AWS_ALLOW_HTTP: 'true', AWS_REGION: us-east-1, FOLDER: train}}\n\
         resources: {{cpus: 500m, job_recovery: {{max_restarts_on_errors: 1}}}}\n\
         secrets: {{AWS_ACCESS_KEY_ID: , AWS_SECRET_ACCESS_KEY: }}\n\
         file_mounts:\n  data/$FOLDER: {}\n  ~/sky_workdir/w.bin: {}\n\
         setup: find . -type f | wc -l; cat \"data/train/part 3/3\"; wc -c <w.bin; find data -type d | wc -l\n\
         run: rm -rf data w.bin; exit 1\n",
        bucket.address(),
        bucket.url("$FOLDER"),
        bucket.url("weights.bin"),
    );
    cli.write("task.yaml", &text);
    let secrets = [
        "--secret",
        "AWS_ACCESS_KEY_ID=canary-key",
        "--secret",
        "AWS_SECRET_ACCESS_KEY=canary",
    ];
    let mut command = vec!["jobs", "submit", "task.yaml", "--detach"];
    command.extend(secrets);
    let id = cli.run(&command).ok().trim().to_owned();
    world.api.wait_for(&id, TaskState::Failed).await;
    for node in 0..2 {
        let log = world.api.log_text(&id, &format!("?node={node}")).await;
        for attempt in ["", " attempt-2"] {
            let prefix = format!("node-{node}{attempt} | ");
            let lines = log.lines().filter_map(|line| line.strip_prefix(&prefix));
            // A copy that takes long says how far it is.
            let lines: Vec<&str> = lines.filter(|line| !line.starts_with("[k8s-cli: ")).collect();
            // `data`, `train`, seven parts, and the empty folder.
            assert_eq!(lines, ["201", "content 3", "20000000", "10"], "{log}");
        }
        assert!(!log.contains("canary"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_fails_the_node_with_the_reason() {
    let Some(bucket) = Bucket::start_on(&host()).await else {
        return;
    };
    bucket.put("evil/..%2F..%2Fescaped", "x").await;
    bucket.put("doubled/a//b", "x").await;
    let world = copying().await;
    let endpoint = format!("http://{}", bucket.address());
    for (key, wanted) in [
        ("nothing", "cannot copy: there is nothing at `s3://archive/nothing`"),
        ("evil", "evil/../../escaped"),
        ("doubled", "doubled/a//b"),
    ] {
        let task = with_mounts("echo never", &endpoint, json!({"data": bucket.url(key)}));
        let id = world.api.submit(&task).await;
        let status = world.api.wait_for(&id, TaskState::Failed).await;
        let message = status.message.unwrap();
        assert!(message.contains(wanted), "{key}: {message}");
        let log = world.api.log_text(&id, "").await;
        assert!(log.contains(wanted) && !log.contains("never"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_public_says_which_secrets_are_missing() {
    if Backend::Cluster.lacks("its pods don't reach a program at the loopback address") {
        return;
    }
    let denied = axum::Router::new().fallback(async || axum::http::StatusCode::FORBIDDEN);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, denied).await });
    let world = copying().await;
    let mut task = with_mounts("echo never", &endpoint, json!({"data": "s3://private/x"}));
    for (secrets, wanted) in [
        (
            json!({}),
            "access to `s3://private/x` is denied: it is not public; give the task `AWS_ACCESS_KEY_ID` and \
             `AWS_SECRET_ACCESS_KEY` as `secrets`",
        ),
        (
            json!({"AWS_ACCESS_KEY_ID": "canary", "AWS_SECRET_ACCESS_KEY": "canary"}),
            "access to `s3://private/x` is denied: the credentials of the task may not read it",
        ),
    ] {
        task["secrets"] = secrets;
        let id = world.api.submit(&task).await;
        let message = world.api.wait_for(&id, TaskState::Failed).await.message.unwrap();
        assert!(message.contains(wanted) && !message.contains("canary"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_possible_is_refused_at_the_submit() {
    let world = World::own(&[]).await;
    let task = with_mounts("true", "", json!({"/data": "s3://data/x"}));
    let (at, _, message) = world.api.try_submit(&task).await.invalid();
    match Backend::chosen() {
        Backend::Embedded => {
            assert_eq!(at, "body.file_mounts./data");
            assert!(message.contains("not to `/data`"), "{message}");
        }
        Backend::Cluster => {
            assert_eq!(at, "body.file_mounts");
            let wanted =
                "needs `--helper-image`; copy the data in `setup`, e.g., `aws s3 cp --recursive s3://data/x .`";
            assert!(message.contains(wanted), "{message}");
        }
    }
}
