//! Benchmark of the server with the embedded engine, next to bash processes started by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Verdict;
use crate::http::Connection;
use crate::measure::{Samples, mebibytes, milliseconds, repeat};
use crate::server::Server;

/// Number of concurrent requests.
const CONCURRENCY: usize = 8;

/// Time limit for all tasks to finish.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// Amount of work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of `true` tasks to run
    #[arg(long, default_value_t = 1000)]
    tasks: usize,

    /// Number of tasks to keep while memory is measured
    #[arg(long, default_value_t = 10_000)]
    kept: usize,

    /// Number of measurements of the time to the first log line
    #[arg(long, default_value_t = 50)]
    lines: usize,

    /// Run the server without an archive
    #[arg(long)]
    no_archive: bool,
}

/// A temporary directory, deleted on drop.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Chooses a path that does not exist yet.
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("k8s-cli-bench-{:016x}", fastrand::u64(..))))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Measures with a state directory of its own.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let folder = Scratch::new();
    let state = folder
        .path()
        .to_str()
        .context("the path of the state directory is not UTF-8")?;
    let mut arguments = vec!["--backend", "embedded", "--state-dir", state];
    if args.no_archive {
        arguments.extend_from_slice(&["--archive", "none"]);
    }
    let server = Server::start(&arguments)?;
    let idle = server.resident()?;
    eprintln!("measuring {} times from submit to first log line", args.lines);
    let lines = first_lines(&server, args.lines).await?;
    let shells = shells(args.lines)?;
    eprintln!(
        "running {} tasks of `true` with {CONCURRENCY} concurrent submits, then the same number by hand",
        args.tasks
    );
    let tasks = run_through(&server, args.tasks).await?;
    let by_hand = by_hand(args.tasks).await?;
    let made = args.lines + args.tasks;
    eprintln!("running tasks until {} are kept", args.kept);
    run_through(&server, args.kept.saturating_sub(made)).await?;
    let resident = server.resident()?;
    let count = all(&server).await?.len();
    anyhow::ensure!(count >= args.kept, "{count} tasks are kept");
    let whole = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    Ok(vec![
        Verdict {
            name: "submit to first log line, median",
            ours: format!("{:.1} ms", milliseconds(lines.median())),
            beside: format!("{:.1} ms", milliseconds(shells.median())),
            bound: "under 50 ms",
            kept: lines.median() < Duration::from_millis(50),
        },
        Verdict {
            name: "submit to first log line, slowest",
            ours: format!("{:.1} ms", milliseconds(lines.slowest())),
            beside: format!("{:.1} ms", milliseconds(shells.slowest())),
            bound: "",
            kept: true,
        },
        Verdict {
            name: "all tasks of `true` run through",
            ours: whole(tasks),
            beside: whole(by_hand),
            bound: "1,000 under 20 s",
            kept: tasks.as_secs_f64() < 20.0 * args.tasks as f64 / 1000.0,
        },
        Verdict::plain("resident, before the tasks", format!("{:.1} MiB", mebibytes(idle))),
        Verdict {
            name: "resident, with all finished tasks kept",
            ours: format!("{:.1} MiB", mebibytes(resident)),
            beside: format!("{count} tasks"),
            bound: "10,000 under 100 MiB",
            kept: resident < 100 << 20,
        },
    ])
}

async fn first_lines(server: &Server, count: usize) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    let task = json!({"run": "echo here"}).to_string();
    for _ in 0..count {
        let mut connection = Connection::open(&server.address).await?;
        let mut following = Connection::open(&server.address).await?;
        let start = Instant::now();
        let answer = connection.send("POST", "/tasks/submit", Some(&task)).await?;
        let made: Value = serde_json::from_slice(&answer.body)?;
        following
            .first_byte_of_log(made["task_id"].as_str().context("the response has no task ID")?)
            .await?;
        samples.add(start.elapsed());
        // The end of one task must not slow down the next.
        settle(server).await?;
    }
    Ok(samples)
}

/// A shell in namespaces of its own that starts another one: the same processes as a container, without a server.
fn shell() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--ipc", "--uts", "--fork"]);
    command
        .args(["bash", "-c", "bash -c 'echo here'; exit"])
        .stdin(Stdio::null());
    command
}

fn shells(count: usize) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..count {
        let start = Instant::now();
        shell().output().context("util-linux and bash are required")?;
        samples.add(start.elapsed());
    }
    Ok(samples)
}

async fn by_hand(count: usize) -> anyhow::Result<Duration> {
    let processors = std::thread::available_parallelism()?.get();
    let open = async || Ok(());
    repeat(processors, count, open, async |()| {
        let status = tokio::process::Command::from(shell())
            .stdout(Stdio::null())
            .status()
            .await?;
        anyhow::ensure!(status.success(), "unshare and bash: {status}");
        Ok(())
    })
    .await
}

/// Measures from the first submit to the end of the last task.
pub(crate) async fn run_through(server: &Server, count: usize) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let task = json!({"run": "true"}).to_string();
    repeat(
        CONCURRENCY,
        count,
        async || Connection::open(&server.address).await,
        async |connection| {
            let answer = connection.send("POST", "/tasks/submit", Some(&task)).await?;
            anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
            Ok(())
        },
    )
    .await?;
    settle(server).await?;
    Ok(start.elapsed())
}

async fn all(server: &Server) -> anyhow::Result<Vec<Value>> {
    let mut connection = Connection::open(&server.address).await?;
    let answer = connection.send("GET", "/tasks", None).await?;
    let mut list: Value = serde_json::from_slice(&answer.body)?;
    Ok(list["tasks"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// Waits until all tasks are completed.
async fn settle(server: &Server) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut connection = Connection::open(&server.address).await?;
        let answer = connection.send("GET", "/tasks", None).await?;
        let text = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(!text.contains("\"status\":\"failed\""), "a task failed");
        if !text.contains("\"status\":\"running\"") && !text.contains("\"status\":\"pending\"") {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "timed out waiting for the tasks to finish");
        sleep(Duration::from_millis(20)).await;
    }
}
