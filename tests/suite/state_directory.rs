//! The state directory of the engine: its owner, and contents without a record.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Backend, Server, TaskBuilder, World, eventually, shims};
use rusqlite::Connection;
use serde_json::json;
use task::TaskState;

/// Returns all files below a directory with this text.
fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes()) {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_other_data_is_rejected_and_kept() {
    if Backend::Cluster.lacks("it has no state directory") {
        return;
    }
    let directory = std::env::temp_dir().join(format!("k8s-cli-e2e-other-{:016x}", fastrand::u64(..)));
    for name in ["volumes/photos", "pods/thesis"] {
        fs::create_dir_all(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("data"), "precious").unwrap();
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = Server::command(&["--backend", "embedded", "--state-dir", directory.to_str().unwrap()])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    eventually(
        Duration::from_secs(20),
        "the server to reject the directory",
        async || server.try_wait().unwrap(),
    )
    .await;
    let output = server.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("is not a k8s-cli state directory") && stderr.contains("--state-dir"),
        "{stderr}"
    );
    assert_eq!(files_with(&directory, "precious").len(), 2);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o755);
    fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_loses_no_data_and_leaves_no_process() {
    if Backend::Cluster.lacks("the server does not own the state") {
        return;
    }
    let mut world = World::own(&[]).await;
    let state = world.state_dir().unwrap().to_owned();
    world.api.create_small_volume("data").await;
    let task =
        TaskBuilder::new("printf kept >/data/file; printf draft >draft; echo up; sleep 600").volume("/data", "data");
    let id = world.api.submit(&task).await;
    eventually(Duration::from_secs(30), "the task to have written", async || {
        (!files_with(&state, "draft").is_empty()).then_some(())
    })
    .await;
    world.api.wait_for(&id, TaskState::Running).await;
    world.server().kill();
    for name in ["state.db", "state.db-wal"] {
        fs::remove_file(state.join(name)).unwrap();
    }
    world.server().restart();
    assert_eq!(world.api.task_ids().await, Vec::<String>::new());
    assert!(shims(&state).is_empty());
    for text in ["kept", "draft"] {
        let found = files_with(&state, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(state.join("unknown")), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_leftovers_are_deleted_at_startup() {
    if Backend::Cluster.lacks("the server does not own the state") {
        return;
    }
    let mut world = World::own(&[]).await;
    let state = world.state_dir().unwrap().to_owned();
    world.server().kill();
    let directory = state.join("volumes/0e37df36-f698-11e6-8dd4-cb9ced3df976");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), "deleted").unwrap();
    let connection = Connection::open(state.join("state.db")).unwrap();
    let sql = "INSERT INTO leftovers VALUES ('0e37df36-f698-11e6-8dd4-cb9ced3df976')";
    connection.execute(sql, []).unwrap();
    drop(connection);
    world.server().restart();
    eventually(Duration::from_secs(20), "the directory to be deleted", async || {
        files_with(&state, "deleted").is_empty().then_some(())
    })
    .await;
    assert!(!state.join("unknown").exists());
}

/// Another server may use the directory, or will find it at its new path, and start the same tasks.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_state_directory_is_gone_starts_nothing() {
    if Backend::Cluster.lacks("the server does not own the state") {
        return;
    }
    for what in ["moved", "unlocked", "deleted"] {
        let world = World::own(&[]).await;
        let state = world.state_dir().unwrap().to_owned();
        let moved = state.with_extension("moved");
        match what {
            "moved" => fs::rename(&state, &moved).unwrap(),
            "unlocked" => fs::remove_file(state.join("lock")).unwrap(),
            _ => fs::remove_dir_all(&state).unwrap(),
        }
        let task = TaskBuilder::new("echo once");
        let answer = world.api.try_submit(&task).await;
        assert_eq!(answer.status, 500, "{what}");
        let detail = world.api.get("/readyz").await.error(503);
        assert!(detail.contains("was moved, replaced, or deleted"), "{what}: {detail}");
        assert_eq!(state.join("pods").exists(), what == "unlocked", "{what}");
        assert!(shims(&state).is_empty(), "{what}");
        if what == "moved" {
            fs::rename(&moved, &state).unwrap();
            eventually(Duration::from_secs(20), "the server to be ready", async || {
                (world.api.get("/readyz").await.status == 200).then_some(())
            })
            .await;
            let id = world.api.submit(&task).await;
            world.api.wait_for(&id, TaskState::Completed).await;
            assert_eq!(world.api.log_text(&id, "").await, "once\n");
            assert_eq!(world.api.task_ids().await, [id]);
        }
    }
}

/// A deleted volume is moved away immediately, and nothing waits until its files are deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_many_files_is_deleted_in_the_background() {
    if Backend::Cluster.lacks("the server does not own the volumes") {
        return;
    }
    let world = World::own(&[]).await;
    let state = world.state_dir().unwrap().to_owned();
    let volume = world.api.create_volume(&json!({"name": "many", "size": "1Gi"})).await;
    let task = TaskBuilder::new("true").volume("/many", "many");
    let id = world.api.submit(&task).await;
    world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(world.api.stop(&id).await.status, 200);
    let directory = fs::read_dir(state.join("volumes"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for number in 0..50_000 {
        fs::File::create(directory.join(number.to_string())).unwrap();
    }
    eventually(Duration::from_secs(20), "the volume to be deleted", async || {
        (world.api.delete_volume(&volume).await.status == 200).then_some(())
    })
    .await;
    eventually(Duration::from_secs(20), "the volume to be moved away", async || {
        (!directory.exists()).then_some(())
    })
    .await;
    let id = world.api.run("echo beside").await;
    world.api.wait_for(&id, TaskState::Completed).await;
    eventually(Duration::from_secs(60), "the trash to be empty", async || {
        fs::read_dir(state.join("trash"))
            .unwrap()
            .next()
            .is_none()
            .then_some(())
    })
    .await;
}

/// The limit is enforced at startup, and then every 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn all_logs_together_stay_below_their_limit() {
    if Backend::Cluster.lacks("the kubelet keeps the logs") {
        return;
    }
    let mut world = World::own(&["--log-limit", "4", "--total-log-limit", "2"]).await;
    let state = world.state_dir().unwrap().to_owned();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = world
            .api
            .run("yes 0123456789012345678901234567890123456789 | head -n 20000")
            .await;
        world.api.wait_for(&id, TaskState::Completed).await;
        ids.push(id);
    }
    assert!(world.server().terminate());
    world.server().restart();
    eventually(Duration::from_secs(20), "the oldest logs to be deleted", async || {
        (size_of_logs(&state) <= 2 << 20).then_some(())
    })
    .await;
    let oldest = world.api.log_text(&ids[0], "").await;
    assert!(
        oldest.starts_with("[k8s-cli: the beginning of this log was removed"),
        "{}",
        oldest.len()
    );
    let newest = world.api.log_text(&ids[1], "?tail=1").await;
    assert_eq!(newest, "0123456789012345678901234567890123456789\n");
}

fn size_of_logs(state: &Path) -> u64 {
    let pods = fs::read_dir(state.join("pods")).unwrap().flatten();
    let files = pods.flat_map(|pod| fs::read_dir(pod.path().join("log")).into_iter().flatten().flatten());
    files
        .map(|file| file.metadata().map_or(0, |metadata| metadata.len()))
        .sum()
}
