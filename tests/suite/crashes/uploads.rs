//! Uploads are interrupted, and several run at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use e2e::{Backend, CommandLine, World, from_environment};
use files::{HashCache, Limits, Manifest, Walk};
use task::TaskState;
use tempfile::TempDir;

use super::super::files::{LIMIT, TREE_HASH, folder, noise, of_task, tree_hash};
use super::super::large_files::fetching;

/// A folder of about 50 MiB, which takes several requests.
fn large_folder() -> TempDir {
    let folder = folder(300);
    for number in 0..50 {
        fs::write(folder.path().join(format!("noise-{number}")), noise(1_000_000 + number)).unwrap();
    }
    folder
}

fn manifest(folder: &Path) -> Manifest {
    let walk = Walk {
        limits: Limits::NONE,
        everything: false,
    };
    let selection = walk.folder(folder).unwrap();
    selection.manifest(&HashCache::none(), |_| {}).unwrap()
}

/// The folder with the stored files of all users.
fn store(world: &World, archive: &TempDir) -> PathBuf {
    match Backend::chosen() {
        Backend::Cluster => archive.path().join("files"),
        Backend::Embedded => world.state_dir().unwrap().join("archive/files"),
    }
}

/// The names of everything that is stored, and of what is not complete.
fn stored(store: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                assert!(names.insert(entry.file_name().into_string().unwrap()));
            }
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_interrupted_again_and_again_continues_and_leaves_no_broken_tree() {
    let interruptions = from_environment("K8S_CLI_E2E_CRASHES", 30);
    let (mut world, archive) = fetching(&[]).await;
    let folder = large_folder();
    let expected = tree_hash(folder.path());
    let cli = CommandLine::of(&world);
    let path = folder.path().to_str().unwrap();
    let submit = |key: &str| {
        let arguments = [
            "jobs",
            "submit",
            "-d",
            "--idempotency-key",
            key,
            "--workdir",
            path,
            "--",
            "bash",
            "-c",
            TREE_HASH,
        ];
        cli.command(&arguments)
    };
    let contents = manifest(folder.path()).contents().len();
    let mut most = 0;
    for number in 0..interruptions {
        let mut command = submit(&format!("interrupted-{number}"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..300))).await;
        if number % 3 != 0 {
            world.server().kill();
        }
        if number % 3 != 1 {
            child.kill().unwrap();
        }
        if number % 3 != 0 {
            world.server().restart();
        }
        let _ = child.wait().unwrap();
        let now = stored(&store(&world, &archive)).len();
        // What was sent stays sent.
        assert!(now >= most, "{now} of {most} are left");
        most = now;
    }
    let ran = submit("last").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let tasks = world.api.tasks().await;
    assert!(!tasks.is_empty());
    for task in tasks {
        let is_final = |status: &task::wire::TaskStatus| status.status.is_final();
        let status = world
            .api
            .wait_for_status(&task.task_id, LIMIT, "the end", is_final)
            .await;
        let log = world.api.log_text(&task.task_id, "").await;
        assert_eq!(status.status, TaskState::Completed, "{log} {status:?}");
        assert_eq!(of_task(&log), expected);
    }
    // Those of killed servers have names of their own.
    let complete = stored(&store(&world, &archive))
        .into_iter()
        .filter(|name| !name.contains('#'));
    assert_eq!(complete.count(), contents + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_the_same_folder_at_once_are_stored_once() {
    let (world, archive) = fetching(&[]).await;
    let folder = large_folder();
    let path = folder.path().to_str().unwrap();
    let homes: Vec<CommandLine> = (0..10).map(|_| CommandLine::of(&world)).collect();
    let started: Vec<_> = homes
        .iter()
        .map(|cli| {
            cli.command(&["jobs", "submit", "-d", "--workdir", path, "--", "true"])
                .spawn()
                .unwrap()
        })
        .collect();
    for child in started {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let contents = manifest(folder.path()).contents();
    let expected: BTreeSet<String> = contents
        .keys()
        .map(ToString::to_string)
        .chain([manifest(folder.path()).hash().to_string()])
        .collect();
    assert_eq!(stored(&store(&world, &archive)), expected);
}
