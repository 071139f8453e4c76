//! The server that is measured: a release build, started as a person would.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use crate::http::Connection;

/// A running server; it is killed when this is dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Server {
    /// A Job that this server would make for a task, without the label by which it finds its own.
    pub async fn manifest(&self, task: &str) -> anyhow::Result<Job> {
        let mut connection = Connection::open(&self.address).await?;
        let answer = connection
            .send("POST", "/tasks/submit?dry_run=true", Some(task))
            .await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let mut manifests = answer["manifests"].as_array().into_iter().flatten();
        let job = manifests
            .find(|manifest| manifest["kind"] == "Job")
            .context("a task has a Job")?;
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

    /// Starts the server of the same build, with its usual log, which goes nowhere.
    pub fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("k8s-cli-api");
        let mut child = Command::new(&binary)
            .args(["--port", "0", "--log-format", "json"])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`; build it with `--release`", binary.display()))?;
        let mut log = BufReader::new(child.stderr.take().context("standard error is piped")?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            anyhow::ensure!(log.read_line(&mut line)? > 0, "the server did not start");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["event"] == "listening" {
                break entry["address"]
                    .as_str()
                    .context("the server says where it listens")?
                    .to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self { child, address })
    }

    /// How much memory it has, in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("Linux says it")?;
        let kibibytes: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
