//! Benchmarks of k8s-cli-api next to its limit, in one run on one machine: absolute times differ between machines, the
//! ratios do not.

mod archive;
mod archiving;
mod cluster;
mod command_line;
mod embedded;
mod files;
mod followers;
mod gang;
mod http;
mod kubernetes;
mod measure;
mod records;
mod server;

use std::process::ExitCode;

use clap::Parser;

/// Measure k8s-cli-api next to its limit
#[derive(Debug, Parser)]
enum Subject {
    /// On the cluster that KUBECONFIG names, next to kube-apiserver alone
    Cluster(cluster::Args),
    /// On this machine, next to bash alone
    Embedded(embedded::Args),
    /// Many followers of one log, on this machine
    Followers(followers::Args),
    /// Searches in the archive, and the CPU that archiving takes, next to a server without an archive
    Archive(archive::Args),
    /// A large folder to several nodes of this machine, next to plain copies
    Files(files::Args),
    /// The CLI, next to kubectl
    CommandLine(command_line::Args),
}

/// A figure and its bound.
pub struct Verdict {
    name: &'static str,
    ours: String,
    beside: String,
    bound: &'static str,
    kept: bool,
}

impl Verdict {
    /// A figure without a bound and without anything to compare it with.
    fn plain(name: &'static str, ours: String) -> Self {
        Self {
            name,
            ours,
            beside: String::new(),
            bound: "",
            kept: true,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let (verdicts, limit) = match Subject::parse() {
        Subject::Cluster(args) => (cluster::run(&args).await?, "kube-apiserver alone"),
        Subject::Embedded(args) => (embedded::run(&args).await?, "bash alone"),
        Subject::Followers(args) => (followers::run(&args).await?, "in all"),
        Subject::Archive(args) => (archive::run(&args).await?, "beside"),
        Subject::Files(args) => (files::run(&args).await?, "beside"),
        Subject::CommandLine(args) => (command_line::run(&args).await?, "kubectl"),
    };
    println!("{:<38} {:>16} {:>26}   bound", "", "ours", limit);
    for verdict in &verdicts {
        let Verdict {
            name,
            ours,
            beside,
            bound,
            kept,
        } = verdict;
        println!(
            "{name:<38} {ours:>16} {beside:>26}   {bound}{}",
            if *kept { "" } else { "  NOT KEPT" }
        );
    }
    let all = verdicts.iter().all(|verdict| verdict.kept);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
