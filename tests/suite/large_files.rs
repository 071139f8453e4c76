//! Files that are too large for Kubernetes objects: the nodes fetch them from the server.
//!
//! On a cluster, this needs the image of `test-cluster/cluster helper`, and an address of this machine that pods reach.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use ::files::ContentHash;
use e2e::{Api, Backend, CommandLine, Server, World, eventually};
use k8s_openapi::api::core::v1::Secret;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use task::TaskState;
use tempfile::TempDir;

use super::files::{self, LIMIT, TREE_HASH, folder, node_logs, noise, of_task, part_names, tree_hash, upload};

/// A world whose nodes fetch files above 1 MiB. The directory has the archive, without which a cluster cannot do that.
pub(crate) async fn fetching(more: &[&str]) -> (World, TempDir) {
    let archive = tempfile::tempdir().unwrap();
    let mut all = vec!["--max-task-files".to_owned(), "1".to_owned()];
    if Backend::chosen() == Backend::Cluster {
        let from = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        // The address of the bridge of the test cluster, which is this machine.
        let host = from("K8S_CLI_E2E_HOST", "10.244.0.1");
        let image = from("K8S_CLI_E2E_HELPER_IMAGE", "localhost/k8s-cli-helper:test");
        // The URL must be known before the server listens.
        let port = TcpListener::bind((host.as_str(), 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let url = format!("http://{host}:{port}");
        let archive = format!("file://{}", archive.path().display());
        let port = port.to_string();
        let cluster = [
            ("--host", host.as_str()),
            ("--port", &port),
            ("--helper-image", &image),
            ("--advertise-url", &url),
            ("--archive", &archive),
        ];
        all.extend(
            cluster
                .iter()
                .flat_map(|(name, value)| [name.to_string(), value.to_string()]),
        );
    }
    let all: Vec<&str> = all.iter().map(String::as_str).chain(more.iter().copied()).collect();
    (World::own(&all).await, archive)
}

/// A folder with everything that a folder may have, and a large file that does not compress.
fn large_folder() -> TempDir {
    let folder = folder(100);
    fs::write(folder.path().join("large.bin"), noise(9_000_000)).unwrap();
    folder
}

/// A task with files, and as much CPU as there is: a hundredth would take minutes for their hashes.
fn with_files(run: &str, sets: Value) -> Value {
    let mut task = files::with_files(run, sets);
    task["resources"] = json!({});
    task
}

/// Waits for the end of a task, and returns its log, with what is known if it has failed.
async fn log_of(world: &World, task: &str) -> String {
    let status = world
        .api
        .wait_for_status(task, LIMIT, "the end", |status| status.status.is_final())
        .await;
    let log = of_task(&world.api.log_text(task, "").await);
    match status.status {
        TaskState::Completed => log,
        _ => format!("{log}{status:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_folder_is_on_every_node_as_it_was() {
    let (world, _archive) = fetching(&[]).await;
    let folder = large_folder();
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    // The token is nobody's business.
    let run = format!("{TREE_HASH}\nenv | grep K8S_CLI_FILES\necho x >new && cat new");
    let mut task = with_files(&run, json!({".": id}));
    task["num_nodes"] = json!(3);
    let task = world.api.submit(&task).await;
    let _ = log_of(&world, &task).await;
    for log in node_logs(&world.api, &task, 3).await {
        assert_eq!(of_task(&log), format!("{expected}x\n"));
    }
    assert_eq!(part_names(&world).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_fetches_the_files_as_they_were_submitted() {
    let (world, _archive) = fetching(&[]).await;
    let folder = large_folder();
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    let mut task = with_files(&format!("{TREE_HASH}\nrm -rf ./*; exit 1"), json!({".": id}));
    task["resources"]["job_recovery"] = json!({"max_restarts_on_errors": 1});
    let task = world.api.submit(&task).await;
    let _ = world.api.wait_for(&task, TaskState::Failed).await;
    let log = of_task(&world.api.log_text(&task, "").await);
    assert_eq!(log, format!("{expected}attempt-2 | {expected}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_rights_fetches_its_files_too() {
    let (world, _archive) = fetching(&["--pod-security", "restricted"]).await;
    let folder = large_folder();
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    let run = format!("{TREE_HASH}\necho x >new && cat new");
    let task = world.api.submit(&with_files(&run, json!({".": id}))).await;
    assert_eq!(log_of(&world, &task).await, format!("{expected}x\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_file_sets_and_a_single_file_are_where_the_task_says() {
    let (world, _archive) = fetching(&[]).await;
    let cli = CommandLine::of(&world);
    fs::create_dir(cli.home().join("code")).unwrap();
    cli.write("code/train.py", "print(1)");
    fs::write(cli.home().join("weights.bin"), noise(3_000_000)).unwrap();
    cli.write(
        "task.yaml",
        "workdir: code\nfile_mounts: {data/my.bin: weights.bin}\nrun: cat train.py; ls . data; wc -c <data/my.bin\n",
    );
    let log = cli.run(&["jobs", "submit", "task.yaml"]).ok();
    assert_eq!(of_task(&log), "print(1).:\ndata\ntrain.py\n\ndata:\nmy.bin\n3000000\n");
}

/// The number of requests for contents that the server has answered since its start.
async fn requests_for_contents(api: &Api) -> Option<u64> {
    let metrics = api
        .request(Method::GET, "/metrics")
        .send()
        .await
        .ok()?
        .text()
        .await
        .ok()?;
    let is_counted = |line: &&str| {
        line.starts_with("k8s_cli_http_requests_total") && line.contains("/contents\"") && line.contains("\"200\"")
    };
    let line = metrics
        .lines()
        .filter(|line| line.contains("{file_set_id}"))
        .find(is_counted)?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_continues_after_a_restart_of_the_server() {
    let (mut world, _archive) = fetching(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    for number in 0..30 {
        fs::write(folder.path().join(format!("{number}")), noise(4_000_000 + number)).unwrap();
    }
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    // A fetch that has ended before the kill shows nothing.
    for _ in 0..10 {
        let task = world.api.submit(&with_files(TREE_HASH, json!({".": id}))).await;
        eventually(LIMIT, "the node to fetch", async || {
            requests_for_contents(&world.api).await
        })
        .await;
        let server: &mut Server = world.server();
        server.kill();
        server.restart();
        assert_eq!(log_of(&world, &task).await, expected);
        if requests_for_contents(&world.api).await.is_some_and(|count| count > 0) {
            return;
        }
    }
    panic!("no fetch was interrupted");
}

/// The token of a task, as its nodes get it.
pub(super) async fn token_of(world: &World, task: &str) -> String {
    let secrets = world.cluster.api::<Secret>().list(&Default::default()).await.unwrap();
    let prefix = format!("task-{task}-files-");
    let is_of_task = |secret: &Secret| {
        secret
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| name.starts_with(&prefix))
    };
    let secret = secrets.items.into_iter().find(is_of_task).unwrap();
    String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
}

/// The status and the body of the response to a node with this token.
async fn as_node(api: &Api, token: &str, set: &str) -> (u16, String) {
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client
        .get(format!("{}/files/{set}/manifest", api.base()))
        .bearer_auth(token);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned(),
    )
}

/// A file set with one large file, and a task with it that runs.
async fn running_task(world: &World, folder: &Path) -> (String, String) {
    let set = upload(&world.api, folder).await;
    let task = world.api.submit(&with_files("sleep 600", json!({".": set}))).await;
    let _ = world.api.wait_for(&task, TaskState::Running).await;
    (set, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_the_files_of_its_task_until_the_task_has_ended() {
    let (world, _archive) = fetching(&[]).await;
    let (first, second) = (large_folder(), large_folder());
    fs::write(second.path().join("second"), "x").unwrap();
    let (set, task) = running_task(&world, first.path()).await;
    let (other_set, other_task) = running_task(&world, second.path()).await;
    let token = token_of(&world, &task).await;
    let (status, manifest) = as_node(&world.api, &token, &set).await;
    assert_eq!((status, manifest.lines().next()), (200, Some("{\"manifest\":1}")));
    // A user, a wrong secret, the files of another task of the same user, and unknown ones.
    let mut wrong = token.clone().into_bytes();
    let last = wrong.last_mut().unwrap();
    *last = if *last == b'0' { b'1' } else { b'0' };
    let mut refusals = vec![
        as_node(&world.api, "alice@example.com", &set).await,
        as_node(&world.api, &String::from_utf8(wrong).unwrap(), &set).await,
        as_node(&world.api, &token, &other_set).await,
        as_node(&world.api, &token, &"0".repeat(64)).await,
        as_node(&world.api, &token_of(&world, &other_task).await, &set).await,
    ];
    let _ = world
        .api
        .post(&format!("/tasks/{task}/cancel"), &json!(null))
        .await
        .ok();
    let _ = world
        .api
        .wait_for_status(&task, LIMIT, "the end", |status| status.status.is_final())
        .await;
    refusals.push(as_node(&world.api, &token, &set).await);
    let other_token = token_of(&world, &other_task).await;
    let _ = world.api.stop(&other_task).await.ok();
    refusals.push(as_node(&world.api, &other_token, &other_set).await);
    for (number, (status, detail)) in refusals.iter().enumerate() {
        assert_eq!((*status, detail), (403, &refusals[0].1), "{number}");
    }
    // Requests of users are as before. A proxy lets these pass as they are, so that a user proves nothing.
    assert_eq!(world.api.get(&format!("/files/{set}")).await.status, 200);
    assert_eq!(world.api.get(&format!("/files/{set}/manifest")).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_no_contents_that_its_files_do_not_have() {
    let (world, _archive) = fetching(&[]).await;
    let folder = large_folder();
    let (set, task) = running_task(&world, folder.path()).await;
    let token = token_of(&world, &task).await;
    let hash = |bytes: &[u8]| ContentHash::of(bytes).to_string();
    let own = hash(&fs::read(folder.path().join("-dash 'quote' \"double\" $HOME")).unwrap());
    // Alice has it, but not in this file set.
    let _ = upload(&world.api, tempfile_with("other").path()).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let post = async |body: Value| {
        let request = client.post(format!("{}/files/{set}/contents", world.api.base()));
        let response = request.bearer_auth(&token).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    };
    assert_eq!(
        post(json!({"contents": [own, own]})).await,
        (200, "\0\0\0\u{3}odd\0\0\0\u{3}odd".into())
    );
    for wrong in [
        json!({"contents": [own, hash(b"other")]}),
        json!({"contents": []}),
        json!({"contents": vec![own.clone(); 1001]}),
        json!({"contents": ["../../x"]}),
    ] {
        assert_eq!(post(wrong.clone()).await.0, 422, "{wrong}");
    }
}

fn tempfile_with(content: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), content).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_settings_names_them_and_the_command_line_sends_nothing() {
    if Backend::Embedded.lacks("tasks on this machine fetch files without any settings") {
        return;
    }
    let world = World::own(&["--max-task-files", "1", "--helper-image", "helper:1"]).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("noise"), noise(3_000_000)).unwrap();
    let id = upload(&world.api, folder.path()).await;
    let (at, _, message) = world
        .api
        .try_submit(&with_files("true", json!({".": id})))
        .await
        .invalid();
    assert_eq!(at, "body.files");
    assert!(
        message
            .contains("at most 1 MiB when packed; for larger ones, the server needs `--advertise-url` and `--archive`"),
        "{message}"
    );
    assert!(message.contains("leave out large files"), "{message}");
    let cli = CommandLine::of(&world);
    fs::create_dir(cli.home().join("data")).unwrap();
    fs::write(cli.home().join("data/other"), noise(3_000_001)).unwrap();
    let error = cli
        .run(&["jobs", "submit", "--workdir", "data", "--", "true"])
        .failed(2);
    assert!(error.contains("more than 1 MiB when compressed"), "{error}");
}
