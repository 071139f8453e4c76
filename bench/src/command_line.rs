//! Benchmark of the CLI next to kubectl: whole processes, timed by hyperfine, on the same server in one run.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::Verdict;
use crate::embedded::{Scratch, run_through};
use crate::server::Server;

/// Amount of work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of tasks to list
    #[arg(long, default_value_t = 1000)]
    tasks: usize,

    /// Number of runs of each command
    #[arg(long, default_value_t = 50)]
    runs: usize,
}

/// Measures with a state directory of its own.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let folder = Scratch::new();
    let state = folder
        .path()
        .to_str()
        .context("the path of the state directory is not UTF-8")?;
    let server = Server::start(&[
        "--backend",
        "embedded",
        "--state-dir",
        state,
        "--kube-listen",
        "127.0.0.1:0",
    ])?;
    eprintln!("running {} tasks of `true`", args.tasks);
    run_through(&server, args.tasks).await?;
    let cli = std::env::current_exe()?.with_file_name("k8s-cli");
    let cli = cli.to_str().context("the path of the CLI is not UTF-8")?;
    let commands = [
        format!("{cli} --help"),
        "kubectl version --client".to_owned(),
        format!("{cli} jobs list"),
        "kubectl get jobs".to_owned(),
    ];
    let times = hyperfine(&commands, args.runs, &server, folder.path())?;
    let [help, version, list, jobs] = times.as_slice() else {
        anyhow::bail!("hyperfine measured {} of 4 commands", times.len());
    };
    let row = |name, ours: &Time, beside: &Time, bound, limit: f64| Verdict {
        name,
        ours: format!("{:.1} ms", ours.median * 1000.0),
        beside: format!("{:.1} ms", beside.median * 1000.0),
        bound,
        kept: ours.median * 1000.0 < limit,
    };
    let slowest = |name, ours: &Time, beside: &Time| Verdict {
        beside: format!("{:.1} ms", beside.max * 1000.0),
        ..Verdict::plain(name, format!("{:.1} ms", ours.max * 1000.0))
    };
    Ok(vec![
        row("--help | kubectl version --client", help, version, "under 5 ms", 5.0),
        slowest("  slowest", help, version),
        row("jobs list | kubectl get jobs", list, jobs, "1,000 under 20 ms", 20.0),
        slowest("  slowest", list, jobs),
    ])
}

/// Times of one command, in seconds.
struct Time {
    median: f64,
    max: f64,
}

fn hyperfine(commands: &[String], runs: usize, server: &Server, folder: &Path) -> anyhow::Result<Vec<Time>> {
    let report = folder.join("hyperfine.json");
    let status = Command::new("hyperfine")
        .args([
            "--shell=none",
            "--warmup",
            "5",
            "--style",
            "basic",
            "--runs",
            &runs.to_string(),
            "--export-json",
        ])
        .arg(&report)
        .args(commands)
        .env("K8S_CLI_API_URL", format!("http://{}", server.address))
        .env("K8S_CLI_USER", "bench")
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .stdout(std::process::Stdio::null())
        .status()
        .context("hyperfine is required; run `apt-get install hyperfine`")?;
    anyhow::ensure!(status.success(), "hyperfine: {status}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let results = report["results"].as_array().context("hyperfine reported no results")?;
    let time = |result: &Value| {
        Some(Time {
            median: result["median"].as_f64()?,
            max: result["max"].as_f64()?,
        })
    };
    results
        .iter()
        .map(|result| time(result).context("a result of hyperfine has no times"))
        .collect()
}
