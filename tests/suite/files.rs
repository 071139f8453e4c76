//! The files of a user are on every node of a task.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use e2e::{Api, Backend, CommandLine, World, eventually, from_environment, small_task};
use files::{ContentHash, HashCache, Limits, Manifest, PackBuilder, Sources, Walk};
use k8s_openapi::api::core::v1::ConfigMap;
use reqwest::Method;
use serde_json::{Value, json};
use task::TaskState;

pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Prints a hash of everything in the current directory: names, kinds, modes, contents, times, and targets of links. Few
/// processes, because a task has little CPU. A volume may have a group that all directories in it inherit.
pub(crate) const TREE_HASH: &str = r#"LC_ALL=C; export LC_ALL
{
  find . -type f -print0 | sort -z | xargs -0 sha256sum
  find . -type f -print0 | sort -z | xargs -0 stat -c '%Y %n'
  find . -mindepth 1 ! -type l -print0 | sort -z | xargs -0 stat -c '%a %F %n' | sed 's/^2\([0-7]*\) /\1 /; s/regular empty/regular/'
  find . -type l | sort | while read -r name; do printf '%s ' "$name"; readlink "$name"; done
} | sha256sum"#;

/// A folder with everything that a folder may have.
pub(crate) fn folder(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for number in 0..count {
        let directory = root.join(format!("part {}/\u{fc}ber", number % 7));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("file-{number}"));
        fs::write(&file, format!("content {number}\n").repeat(number % 50)).unwrap();
        let mode = [0o644, 0o755, 0o600, 0o640][number % 4];
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        // Some are older than the copy, and some newer than now.
        let time = UNIX_EPOCH + Duration::from_secs([1_000_000_000, 2_000_000_000][number % 2] + number as u64);
        fs::File::options()
            .append(true)
            .open(&file)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"not-utf8-\xff")), "odd").unwrap();
    fs::write(root.join("-dash 'quote' \"double\" $HOME"), "odd").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("part 0/\u{fc}ber/file-0", root.join("link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    folder
}

pub(crate) fn tree_hash(folder: &Path) -> String {
    let output = Command::new("bash")
        .args(["-c", TREE_HASH])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Uploads a folder as the CLI does, and returns the ID of the file set.
pub(crate) async fn upload(api: &Api, folder: &Path) -> String {
    let limits = Limits {
        max_entries: 100_000,
        max_total_bytes: 1 << 30,
        max_manifest_bytes: 16 << 20,
    };
    let walk = Walk {
        limits,
        everything: false,
    };
    let selection = walk.folder(folder).unwrap();
    let manifest = selection.manifest(&HashCache::none(), |_| {}).unwrap();
    let id = manifest.hash().to_string();
    let missing = put(api, &manifest).await;
    let sources = Sources::new(&selection, &manifest);
    let mut pack = PackBuilder::new();
    for hash in &missing {
        let content = sources.read(&hash.parse::<ContentHash>().unwrap()).unwrap();
        if let Some(full) = pack.push(&content).unwrap() {
            send(api, full).await;
        }
    }
    if let Some(last) = pack.finish() {
        send(api, last).await;
    }
    assert_eq!(put(api, &manifest).await, [""; 0]);
    id
}

async fn put(api: &Api, manifest: &Manifest) -> Vec<String> {
    let path = format!("/files/{}", manifest.hash());
    let answer = api
        .send(api.request(Method::PUT, &path).body(manifest.encode()))
        .await
        .ok();
    let missing = answer["missing"].as_array().unwrap().iter();
    missing.map(|hash| hash.as_str().unwrap().to_owned()).collect()
}

async fn send(api: &Api, pack: bytes::Bytes) {
    let _ = api
        .send(api.request(Method::POST, "/files/contents").body(pack))
        .await
        .ok();
}

/// Bytes that do not compress.
pub(crate) fn noise(count: u32) -> Vec<u8> {
    let mut bytes = vec![0; count as usize];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

pub(crate) fn with_files(run: &str, files: Value) -> Value {
    let mut task = serde_json::to_value(small_task(run)).unwrap();
    task["files"] = files;
    task
}

/// The log without the lines of this project, e.g., about what is not kept.
pub(crate) fn of_task(log: &str) -> String {
    let lines = log.split_inclusive('\n');
    lines.filter(|line| !line.contains("[k8s-cli: ")).collect()
}

/// The log of each node, in the order of ranks.
pub(crate) async fn node_logs(api: &Api, id: &str, nodes: usize) -> Vec<String> {
    let mut logs = Vec::new();
    for node in 0..nodes {
        let log = api.log_text(id, &format!("?node={node}")).await;
        logs.push(
            log.lines()
                .map(|line| line.rsplit("| ").next().unwrap().to_owned() + "\n")
                .collect(),
        );
    }
    logs
}

pub(crate) async fn part_names(world: &World) -> Vec<String> {
    let maps = world
        .cluster
        .api::<ConfigMap>()
        .list(&Default::default())
        .await
        .unwrap();
    let names = maps.items.into_iter().filter_map(|map| map.metadata.name);
    names.filter(|name| name.starts_with("k8s-cli-files-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_on_every_node_as_it_was() {
    let world = World::own(&[]).await;
    let folder = folder(from_environment("K8S_CLI_E2E_FILES", 200));
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    let mut task = with_files(TREE_HASH, json!({".": id}));
    task["num_nodes"] = json!(3);
    let task = world.api.submit(&task).await;
    let _ = world.api.wait_for(&task, TaskState::Completed).await;
    for log in node_logs(&world.api, &task, 3).await {
        assert_eq!(log, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_has_the_files_as_they_were_submitted() {
    let world = World::own(&[]).await;
    let folder = folder(10);
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    // Each attempt removes its copy and fails.
    let mut task = with_files(&format!("{TREE_HASH}\nrm -rf ./*; exit 1"), json!({".": id}));
    task["resources"]["job_recovery"] = json!({"max_restarts_on_errors": 1});
    let task = world.api.submit(&task).await;
    // What happens to the folder meanwhile does not matter.
    fs::write(folder.path().join("later"), "x").unwrap();
    let _ = world.api.wait_for(&task, TaskState::Failed).await;
    let log = world.api.log_text(&task, "").await;
    assert_eq!(log, format!("{expected}attempt-2 | {expected}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_where_the_task_says() {
    let world = World::own(&[]).await;
    let folder = folder(3);
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    let run = format!("cd 'sub dir/data' && {TREE_HASH}\ntouch '../../new' && echo writable");
    let task = world.api.submit(&with_files(&run, json!({"sub dir/data": id}))).await;
    let status = world
        .api
        .wait_for_status(&task, LIMIT, "the end", |status| status.status.is_final())
        .await;
    let log = of_task(&world.api.log_text(&task, "").await);
    assert_eq!(log, format!("{expected}writable\n"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_a_group_share_their_files_until_the_last_one_has_ended() {
    let world = World::own(&[]).await;
    let folder = folder(5);
    let id = upload(&world.api, folder.path()).await;
    let task = |run: &str| with_files(run, json!({".": id}));
    let group = json!({"tasks": [task("sleep 600"), task("ls | wc -l"), task("sleep 600")]});
    let answer = world.api.post("/groups/submit", &group).await.ok();
    let tasks: Vec<String> = serde_json::from_value(answer["task_ids"].clone()).unwrap();
    // The ConfigMap that all of them own, and the one part.
    let names = part_names(&world).await;
    assert_eq!(names.len(), 2, "{names:?}");
    let owners = async || {
        let map = world.cluster.api::<ConfigMap>().get(&names[0]).await.unwrap();
        map.metadata.owner_references.unwrap_or_default().len()
    };
    assert_eq!(owners().await, 3);
    // The leader of the group is the first one.
    let _ = world.api.stop(&tasks[0]).await.ok();
    let _ = world.api.wait_for(&tasks[1], TaskState::Completed).await;
    let _ = world.api.wait_for(&tasks[2], TaskState::Running).await;
    assert_eq!(part_names(&world).await, names);
    let _ = world.api.stop(&tasks[2]).await.ok();
    eventually(LIMIT, "the files to be deleted", async || {
        part_names(&world).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(world.api.status(&tasks[1]).await.status, TaskState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_submits_of_the_same_folder_at_once_all_succeed() {
    let world = World::own(&[]).await;
    let folder = folder(3);
    let id = upload(&world.api, folder.path()).await;
    let task = with_files("sleep 600", json!({".": id}));
    let submits = (0..20).map(|_| world.api.submit(&task));
    let tasks: Vec<String> = futures::future::join_all(submits).await;
    assert_eq!(part_names(&world).await.len(), 40);
    for task in &tasks {
        let _ = world.api.stop(task).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_another_user_are_unknown() {
    let world = World::own(&[]).await;
    let id = upload(&world.api, folder(1).path()).await;
    let bob = world.api.as_user("bob@example.com");
    let unknown = "0".repeat(64);
    let mut answers = Vec::new();
    for id in [&id, &unknown] {
        let answer = bob.get(&format!("/files/{id}")).await;
        assert_eq!(answer.status, 404);
        let (at, _, message) = bob.try_submit(&with_files("true", json!({".": id}))).await.invalid();
        assert_eq!(at, "body.files");
        answers.push(message.replace(id, "ID"));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(world.api.get(&format!("/files/{id}")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_without_rights_has_the_files_too() {
    let world = World::own(&["--pod-security", "restricted"]).await;
    let folder = folder(3);
    let expected = tree_hash(folder.path());
    let id = upload(&world.api, folder.path()).await;
    let run = format!("{TREE_HASH}\necho x >new && cat new");
    let task = world.api.submit(&with_files(&run, json!({".": id}))).await;
    let status = world
        .api
        .wait_for_status(&task, LIMIT, "the end", |status| status.status.is_final())
        .await;
    let log = of_task(&world.api.log_text(&task, "").await);
    assert_eq!(log, format!("{expected}x\n"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_file_set_is_refused_before_anything_is_stored() {
    let world = World::own(&[]).await;
    let api = &world.api;
    let put = async |text: &str| {
        let hash = files::ManifestHash::of(text.as_bytes());
        let request = api.request(Method::PUT, &format!("/files/{hash}"));
        api.send(request.body(text.to_owned())).await
    };
    for line in [
        r#"{"path":"../x","kind":"directory","mode":"755"}"#,
        r#"{"path":"/etc","kind":"directory","mode":"755"}"#,
        r#"{"path":"link","kind":"link","target":"../../etc"}"#,
        r#"{"path":"disk","kind":"device","mode":"644"}"#,
    ] {
        let (at, _, message) = put(&format!("{{\"manifest\":1}}\n{line}\n")).await.invalid();
        assert_eq!(at, "body", "{message}");
    }
    let many = format!("{{\"manifest\":1}}\n{}", "{}\n".repeat(1_000_000));
    let (_, _, message) = put(&many).await.invalid();
    assert!(message.contains("more than 100000"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_the_caller_is_on_the_nodes_as_it_is_now() {
    let world = World::own(&[]).await;
    let cli = CommandLine::of(&world);
    fs::create_dir(cli.home().join("code")).unwrap();
    cli.write("code/train.py", "print(1)");
    cli.write("code/.gitignore", ".env\n*.bin\n");
    cli.write("code/.env", "SECRET=1");
    cli.write("code/large.bin", "x");
    cli.write("task.yaml", "workdir: code\nnum_nodes: 1\nrun: cat train.py; ls -A\n");
    let submit = || cli.run(&["jobs", "submit", "task.yaml"]);
    let first = submit();
    assert!(
        first
            .stderr
            .contains("note: left out of `code`: by `.gitignore`: `.env`, `large.bin`; to copy one, add `!PATH`"),
        "{}",
        first.stderr
    );
    assert_eq!(first.ok(), "print(1).gitignore\ntrain.py\n");
    assert!(!submit().stderr.contains("note:"), "it is said once");
    cli.write("code/.skyignore", "*.bin\n");
    let replaced = submit();
    assert!(
        replaced
            .stderr
            .contains("`.skyignore` replaces `.gitignore`, so that these are copied from `code`: `.env`"),
        "{}",
        replaced.stderr
    );
    assert_eq!(replaced.ok(), "print(1).env\n.gitignore\n.skyignore\ntrain.py\n");
    cli.write("code/train.py", "print(2)");
    let log = cli
        .run(&["jobs", "submit", "--workdir", "code", "--", "cat", "train.py"])
        .ok();
    assert_eq!(log, "print(2)");
    let error = cli
        .run(&["jobs", "submit", "--workdir", "nowhere", "--", "true"])
        .failed(2);
    assert!(error.contains("`nowhere` does not exist"), "{error}");
    let refused = |folder: &str| {
        let command = ["jobs", "submit", "--workdir", folder, "--", "true"];
        cli.run(&command).failed(2)
    };
    let error = refused(".");
    assert!(
        error.contains("`.` is your home folder; choose a folder in it"),
        "{error}"
    );
    let error = refused("");
    assert!(error.contains("--workdir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_survives_kills_of_the_server_and_of_the_command() {
    let mut world = World::own(&["--max-task-files", "64"]).await;
    let cli = CommandLine::of(&world);
    fs::create_dir(cli.home().join("data")).unwrap();
    for number in 0..12 {
        fs::write(cli.home().join(format!("data/{number}")), noise(2_000_000 + number)).unwrap();
    }
    let expected = tree_hash(&cli.home().join("data"));
    let submit = || {
        let mut command = cli.command(&["jobs", "submit", "--workdir", "data", "--", "bash", "-c", TREE_HASH]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for kill in 0..from_environment("K8S_CLI_E2E_UPLOAD_KILLS", 4) {
        let mut child = submit();
        // A command that has not reached the server yet fails at once, as it should.
        eventually(LIMIT, "the upload to begin", async || {
            let metrics = world.api.request(Method::GET, "/metrics").send().await.ok()?;
            metrics.text().await.ok()?.contains("\"/files\"").then_some(())
        })
        .await;
        // The moment differs from kill to kill, and from run to run.
        tokio::time::sleep(Duration::from_millis(37 * kill as u64 % 400)).await;
        world.server().kill();
        world.server().restart();
        if kill % 2 == 0 {
            let _ = child.kill();
        }
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
            .await
            .unwrap();
        // A command whose server goes away before it was reached fails; an upload and its submit go on.
        let said = String::from_utf8_lossy(&output.stderr);
        if kill % 2 == 1 && !said.contains("cannot reach the server") {
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{said}");
        }
    }
    let output = tokio::task::spawn_blocking({
        let child = submit();
        move || child.wait_with_output().unwrap()
    });
    assert_eq!(String::from_utf8(output.await.unwrap().stdout).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_is_where_the_task_says_unless_that_is_on_this_machine() {
    let world = World::own(&[]).await;
    let cli = CommandLine::of(&world);
    cli.write("settings.ini", "rate=1\n");
    cli.write(
        "below.yaml",
        "file_mounts: {conf/my.ini: settings.ini}\nrun: cat conf/*; ls conf\n",
    );
    let log = cli.run(&["jobs", "submit", "below.yaml"]).ok();
    assert_eq!(log, "rate=1\nmy.ini\n");
    cli.write(
        "elsewhere.yaml",
        "file_mounts: {/opt/conf/my.ini: settings.ini}\nrun: cat /opt/conf/*\n",
    );
    let ran = cli.run(&["jobs", "submit", "elsewhere.yaml"]);
    match Backend::chosen() {
        Backend::Embedded => assert!(ran.failed(2).contains("use a relative path")),
        Backend::Cluster => assert_eq!(ran.ok(), "rate=1\n"),
    }
}
