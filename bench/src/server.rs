//! The server under test: a release build, started as a user would start it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use crate::http::Connection;

/// A running server, killed on drop.
pub(crate) struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Returns the Job that this server would create for a task, without the label by which the server finds its own.
    pub(crate) async fn manifest(&self, task: &str) -> anyhow::Result<Job> {
        let mut connection = Connection::open(&self.address).await?;
        let answer = connection
            .send("POST", "/tasks/submit?dry_run=true", Some(task))
            .await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let mut manifests = answer["manifests"].as_array().into_iter().flatten();
        let job = manifests
            .find(|manifest| manifest["kind"] == "Job")
            .context("the manifests have no Job")?;
        let mut job: Job = serde_json::from_value(job.clone())?;
        let pod = job.spec.as_mut().and_then(|spec| spec.template.metadata.as_mut());
        for labels in [job.metadata.labels.as_mut(), pod.and_then(|pod| pod.labels.as_mut())]
            .into_iter()
            .flatten()
        {
            labels.remove("skypilot-task");
        }
        Ok(job)
    }

    /// Starts the server of the same build. Its log is written as usual, and discarded.
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("k8s-cli-api");
        let mut child = Command::new(&binary)
            .args(["--port", "0", "--log-format", "json"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start `{}`; build it with `cargo build --release`",
                    binary.display()
                )
            })?;
        let mut log = BufReader::new(child.stderr.take().context("standard error is not piped")?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            anyhow::ensure!(log.read_line(&mut line)? > 0, "the server did not start");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["event"] == "listening" {
                break entry["address"]
                    .as_str()
                    .context("the server's log has no address")?
                    .to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self { child, address })
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("/proc has no VmRSS")?;
        let kibibytes: u64 = line.split_whitespace().nth(1).context("VmRSS has no number")?.parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
