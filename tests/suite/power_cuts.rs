//! Power cuts: the engine keeps what it has reported and what it has started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{Backend, PowerCut, World, eventually, shims};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde_json::json;
use task::TaskState;

/// A server on a layer that loses unsynced writes.
struct Site {
    world: World,
    layer: PowerCut,
    place: PathBuf,
}

impl Site {
    async fn new(arguments: &[&str]) -> Option<Self> {
        if Backend::Cluster.lacks("the kubelet's disk belongs to its operator") {
            return None;
        }
        // Not below `/tmp`, because a container has its own.
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-{:016x}", fastrand::u64(..)));
        fs::create_dir_all(&place).unwrap();
        let layer = PowerCut::build(&place);
        let world = World::in_directory(&place.join("state"), layer.setting(), arguments).await;
        Some(Self { world, layer, place })
    }

    /// A command that reports that it runs.
    fn run(&self) -> String {
        format!("echo run >>'{}/runs'", self.place.display())
    }

    /// A command that reports that it runs, and cuts the power at that moment.
    fn run_and_cut(&self) -> String {
        format!("{}; : >'{}'", self.run(), self.layer.switch().display())
    }

    async fn wait_for_cut(&self) {
        eventually(Duration::from_secs(30), "the command to run", async || {
            self.layer.switch().exists().then_some(())
        })
        .await;
    }

    /// Everything that runs is killed, and unsynced writes are lost; then the machine starts again.
    fn cut_power(&mut self) {
        let state = self.world.state_dir().unwrap().to_owned();
        self.world.server().kill();
        for shim in shims(&state) {
            let pid = shim.to_string();
            let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
            assert!(killed.success());
        }
        while !shims(&state).is_empty() {
            std::thread::yield_now();
        }
        self.layer.strike(&state);
        self.world.server().restart();
    }

    fn runs(&self) -> usize {
        let text = fs::read_to_string(self.place.join("runs")).unwrap_or_default();
        text.lines().count()
    }

    fn end(self) {
        drop(self.world);
        fs::remove_dir_all(self.place).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ran_at_a_power_cut_is_not_repeated() {
    let Some(mut site) = Site::new(&[]).await else { return };
    let id = site.world.api.run(&format!("{}; sleep 600", site.run_and_cut())).await;
    site.wait_for_cut().await;
    site.cut_power();
    let status = site.world.api.wait_for(&id, TaskState::Failed).await;
    assert_eq!(status.metadata.nodes[0].exit_code, Some(137), "{status:?}");
    assert_eq!(site.runs(), 1);
    site.end();
}

/// A controller creates the second pod, so no client waits until it is on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_ran_at_a_power_cut_is_not_repeated() {
    let Some(mut site) = Site::new(&[]).await else { return };
    let script = format!(
        "if [ -e '{place}/runs' ]; then {cut}; sleep 600; fi; {run}; exit 1",
        place = site.place.display(),
        cut = site.run_and_cut(),
        run = site.run()
    );
    let container = json!({"name": "main", "image": "none", "command": ["/bin/bash", "-c", script]});
    let made: Job = site
        .world
        .cluster
        .make(json!({"metadata": {"name": "retried"}, "spec": {
            "backoffLimit": 1, "podReplacementPolicy": "Failed",
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }}))
        .await;
    let name = made.name_any();
    eventually(Duration::from_secs(60), "the retry to run", async || {
        site.layer.switch().exists().then_some(())
    })
    .await;
    site.cut_power();
    eventually(Duration::from_secs(30), "the Job to have failed", async || {
        let status = site.world.cluster.api::<Job>().get(&name).await.unwrap().status?;
        let conditions = status.conditions.unwrap_or_default();
        conditions.iter().any(|one| one.type_ == "Failed").then_some(())
    })
    .await;
    assert_eq!(site.runs(), 2);
    site.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_task_stays_completed_after_a_power_cut() {
    let Some(mut site) = Site::new(&[]).await else { return };
    let id = site.world.api.run(&format!("{}; echo said", site.run())).await;
    site.world.api.wait_for(&id, TaskState::Completed).await;
    site.cut_power();
    site.world.api.wait_for(&id, TaskState::Completed).await;
    assert_eq!(site.runs(), 1);
    assert_eq!(site.world.api.log_text(&id, "").await, "said\n");
    site.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_several_files_is_complete_after_a_power_cut() {
    // A file is a quarter of the limit.
    let Some(mut site) = Site::new(&["--log-limit", "2"]).await else {
        return;
    };
    let id = site.world.api.run("seq 20000").await;
    site.world.api.wait_for(&id, TaskState::Completed).await;
    site.cut_power();
    site.world.api.wait_for(&id, TaskState::Completed).await;
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert!(site.world.api.log_text(&id, "").await == expected);
    site.end();
}
