//! The disk of the state directory is full: responses stay correct, and the tasks that fill it can be stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Backend, Setting, SmallDisk, TaskBuilder, World, eventually};
use task::TaskState;

/// Size of the disk, in MiB.
const DISK: u32 = 48;

/// Time limit for anything that needs space to be freed first.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server whose state is on a small disk, and a directory beside it that its tasks can see.
struct Site {
    world: World,
    beside: PathBuf,
    disk: SmallDisk,
}

impl Site {
    async fn new() -> Option<Self> {
        if Backend::Cluster.lacks("the kubelet's disk belongs to its operator") {
            return None;
        }
        // Not below `/tmp`, because a container has its own.
        let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("full-{:016x}", fastrand::u64(..)));
        let disk = SmallDisk::mount(&beside, DISK)?;
        let world = World::in_directory(&disk.directory().join("state"), Setting::default(), &[]).await;
        Some(Self { world, beside, disk })
    }

    /// A task that fills the disk, and exits with this code on SIGTERM.
    async fn fill(&self, code: u8) -> String {
        let script = format!(
            "cat /dev/zero >fill; until [ -e '{}/go' ]; do sleep 0.1; done; exit {code}",
            self.beside.display()
        );
        let id = self.world.api.run(&script).await;
        self.wait_until_full().await;
        id
    }

    async fn wait_until_full(&self) {
        eventually(PATIENCE, "the disk to be full", async || {
            self.disk.is_full().then_some(())
        })
        .await;
    }

    async fn wait_for_readiness(&self, status: u16) -> String {
        eventually(PATIENCE, &format!("/readyz to be {status}"), async || {
            let answer = self.world.api.get("/readyz").await;
            (answer.status == status).then(|| answer.body.to_string())
        })
        .await
    }

    /// Checks that another task runs.
    async fn assert_recovered(&self) {
        self.wait_for_readiness(200).await;
        let id = self.world.api.run("echo works").await;
        self.world.api.wait_for(&id, TaskState::Completed).await;
        assert_eq!(self.world.api.log_text(&id, "").await, "works\n");
    }

    fn end(self) {
        drop(self.world);
        drop(self.disk);
        fs::remove_dir_all(self.beside).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fills_the_disk_reports_its_exit_code() {
    let Some(site) = Site::new().await else { return };
    let id = site.fill(3).await;
    let why = site.wait_for_readiness(503).await;
    assert!(why.contains("is full"), "{why}");
    let refused = site.world.api.try_submit(&TaskBuilder::new("true")).await;
    let why = refused.error(500);
    assert!(why.contains("is full"), "{why}");
    assert_eq!(site.world.api.status(&id).await.status, TaskState::Running);
    fs::write(site.beside.join("go"), "").unwrap();
    let status = site.world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(3), "{status:?}");
    site.assert_recovered().await;
    // The reserve is allocated again for the next time.
    fs::remove_file(site.beside.join("go")).unwrap();
    let id = site.fill(4).await;
    site.wait_for_readiness(503).await;
    fs::write(site.beside.join("go"), "").unwrap();
    let status = site.world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(4), "{status:?}");
    site.assert_recovered().await;
    let reserve = site.disk.directory().join("state/reserve");
    eventually(PATIENCE, "the reserve to be allocated again", async || {
        reserve.exists().then_some(())
    })
    .await;
    site.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_uses_all_inodes_can_be_stopped() {
    let Some(site) = Site::new().await else { return };
    let script = "mkdir many; i=0; while : >many/$((i += 1)); do :; done 2>/dev/null; echo full; sleep 600";
    let id = site.world.api.run(script).await;
    let why = site.wait_for_readiness(503).await;
    assert!(why.contains("inodes left"), "{why}");
    let refused = site.world.api.try_submit(&TaskBuilder::new("true")).await;
    assert!(refused.error(500).contains("is full"));
    eventually(PATIENCE, "the last file to be created", async || {
        (site.disk.free_files() == 0).then_some(())
    })
    .await;
    assert_eq!(site.world.api.stop(&id).await.status, 200);
    site.assert_recovered().await;
    site.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_keeps_filling_the_disk_can_be_stopped() {
    let Some(site) = Site::new().await else { return };
    let id = site
        .world
        .api
        .run("while :; do cat /dev/zero >>fill; done 2>/dev/null")
        .await;
    site.wait_until_full().await;
    assert_eq!(site.world.api.stop(&id).await.status, 200);
    eventually(PATIENCE, "the task to be deleted", async || {
        site.world.api.task_ids().await.is_empty().then_some(())
    })
    .await;
    site.assert_recovered().await;
    site.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_on_a_full_disk() {
    let Some(mut site) = Site::new().await else { return };
    let id = site.world.api.run("cat /dev/zero >fill 2>/dev/null; sleep 600").await;
    site.wait_until_full().await;
    site.world.server().kill();
    site.world.server().restart();
    assert_eq!(site.world.api.status(&id).await.status, TaskState::Running);
    assert!(site.world.server().terminate());
    site.world.server().restart();
    assert_eq!(site.world.api.stop(&id).await.status, 200);
    site.assert_recovered().await;
    site.end();
}

/// The task uses all space that the server frees.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_on_a_disk_that_keeps_filling_up() {
    let Some(mut site) = Site::new().await else { return };
    let filler = "while :; do cat /dev/zero >>fill; done 2>/dev/null";
    let id = site.world.api.run(filler).await;
    site.wait_until_full().await;
    for _ in 0..3 {
        assert!(site.world.server().terminate());
        site.world.server().restart();
    }
    site.world.server().kill();
    site.world.server().restart();
    assert_eq!(site.world.api.status(&id).await.status, TaskState::Running);
    assert_eq!(site.world.api.stop(&id).await.status, 200);
    site.assert_recovered().await;
    site.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_says_what_is_missing_because_of_a_full_disk() {
    let Some(site) = Site::new().await else { return };
    let line = "x".repeat(60);
    let script = format!(
        "echo before; cat /dev/zero >fill 2>/dev/null; for i in $(seq 2000); do echo $i {line}; done; rm fill; echo; echo after"
    );
    let id = site.world.api.run(&script).await;
    site.world.api.wait_for(&id, TaskState::Completed).await;
    let log = site.world.api.log_text(&id, "").await;
    assert!(log.starts_with("before\n") && log.ends_with("\nafter\n"), "{log}");
    let is_gap = |text: &&str| text.starts_with("[k8s-cli: ") && text.contains("bytes of output are missing here");
    assert!(log.lines().any(|text| is_gap(&text)), "{log}");
    let is_whole = |text: &str| text.split_once(' ').is_some_and(|(_, rest)| rest == line);
    let torn: Vec<&str> = log
        .lines()
        .filter(|text| !is_whole(text) && !is_gap(text) && !["before", "after", ""].contains(text))
        .collect();
    assert_eq!(torn, Vec::<&str>::new());
    site.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_fills_the_disk_says_so() {
    let Some(site) = Site::new().await else { return };
    let id = site.world.api.run("yes the same line | head -n 4000000").await;
    site.world.api.wait_for(&id, TaskState::Completed).await;
    // The lines after the gap may have been written again: the engine makes room meanwhile.
    let log = site.world.api.log_text(&id, "").await;
    let end = &log[log.len().saturating_sub(200)..];
    assert!(log.contains("bytes of output are missing here"), "{end}");
    assert_eq!(site.world.api.stop(&id).await.status, 200);
    site.assert_recovered().await;
    site.end();
}
