//! The server under test: a release build, started as a user would start it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
        let (server, _) = Self::start_until(arguments, "listening")?;
        Ok(server)
    }

    /// Does the same, and also waits until the server has logged another event. Returns the time until then.
    pub(crate) fn start_until(arguments: &[&str], event: &str) -> anyhow::Result<(Self, Duration)> {
        let start = Instant::now();
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
        let (mut address, mut time) = (None, None);
        let address = loop {
            line.clear();
            anyhow::ensure!(log.read_line(&mut line)? > 0, "the server did not start");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["event"] == event {
                time = Some(start.elapsed());
            }
            if entry["event"] == "listening" {
                address = entry["address"].as_str().map(str::to_owned);
            }
            if let (Some(address), Some(_)) = (&address, time) {
                break address.clone();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok((Self { child, address }, time.unwrap_or_default()))
    }

    /// The processor time of all its threads since it was started.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The fourteenth and fifteenth fields, in hundredths of a second; the second one may contain spaces.
        let (_, fields) = stat.rsplit_once(')').context("/proc has no process")?;
        let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let hundredths: u64 = times.collect::<Result<Vec<_>, _>>()?.into_iter().sum();
        Ok(Duration::from_millis(hundredths * 10))
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        memory(self.child.id(), "VmRSS:")
    }

    /// The most resident memory that it has had, in bytes.
    pub(crate) fn peak(&self) -> anyhow::Result<u64> {
        peak_of(self.child.id())
    }
}

/// The most resident memory that a process has had, in bytes.
pub(crate) fn peak_of(process: u32) -> anyhow::Result<u64> {
    memory(process, "VmHWM:")
}

/// An amount of memory of a process, in bytes.
fn memory(process: u32, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let mut lines = status.lines();
    let line = lines
        .find(|line| line.starts_with(name))
        .context("/proc has no amount of memory")?;
    let kibibytes: u64 = line
        .split_whitespace()
        .nth(1)
        .context("the amount is no number")?
        .parse()?;
    Ok(kibibytes * 1024)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
