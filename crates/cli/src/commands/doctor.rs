//! `k8s-cli doctor`: checks everything that a task needs.

use serde::Serialize;
use task::wire::{BackendKind, ClusterNode, ServerVersion};

use crate::args::ReportFormat;
use crate::client::NodesResponse;
use crate::context::Context;
use crate::error::{Error, PORT_IN_USE, Result};
use crate::output::{format_memory, plural, print_report};

/// The result of one check. Its fields are stable.
#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "lowercase")]
enum CheckResult {
    Ok {
        message: String,
    },
    /// It works, but maybe not as intended.
    Warning {
        message: String,
        hint: String,
    },
    Problem {
        message: String,
        hint: String,
    },
}

impl CheckResult {
    fn ok(message: impl Into<String>) -> Self {
        Self::Ok {
            message: message.into(),
        }
    }
}

/// A check and its result.
#[derive(Debug, Serialize)]
struct Check {
    /// What was checked.
    name: &'static str,
    #[serde(flatten)]
    result: CheckResult,
}

/// What `doctor` reports.
#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Check>,
    /// How many of them found a problem.
    problems: usize,
}

/// Runs the checks. Prints all results before failing, so that one run shows every problem.
pub(crate) async fn run(context: &Context, format: ReportFormat) -> Result<()> {
    let results = check_all(context).await;
    let is_problem = |(_, result): &&(_, CheckResult)| matches!(result, CheckResult::Problem { .. });
    let report = Report {
        problems: results.iter().filter(is_problem).count(),
        checks: results
            .into_iter()
            .map(|(name, result)| Check { name, result })
            .collect(),
    };
    print_report(&report, format, |report| {
        report.checks.iter().map(render_line).collect()
    })?;
    match report.problems {
        0 => Ok(()),
        count => Err(Error::Incomplete(format!("found {}", plural(count, "problem")))),
    }
}

async fn check_all(context: &Context) -> Vec<(&'static str, CheckResult)> {
    let mut results = vec![("user", check_user(context))];
    match context.client.get::<ServerVersion>("/version").await {
        Ok(version) => {
            results.push(("server", check_server(context, &version)));
            results.push(("tasks", check_backend(&version)));
            results.push(("ready", check_readiness(context).await));
            let response = context.client.get::<NodesResponse>("/nodes").await;
            let machines = response.map(|response| response.nodes);
            results.push(("nodes", check_nodes(machines.as_deref())));
            results.push(("gpus", check_gpus(machines.as_deref().unwrap_or_default())));
        }
        Err(error) => results.push(("server", explain_unreachable(context, &error))),
    }
    results
}

fn render_line(check: &Check) -> String {
    use anstyle::AnsiColor::{Green, Red, Yellow};
    let (color, word, message, hint) = match &check.result {
        CheckResult::Ok { message } => (Green, "ok", message, None),
        CheckResult::Warning { message, hint } => (Yellow, "note", message, Some(hint)),
        CheckResult::Problem { message, hint } => (Red, "bad", message, Some(hint)),
    };
    let style = color.on_default().bold();
    let mut text = format!("{style}{word:<5}{style:#} {:<7} {message}\n", check.name);
    if let Some(hint) = hint {
        text.push_str(&format!("{:<13} -> {hint}\n", ""));
    }
    text
}

fn check_user(context: &Context) -> CheckResult {
    CheckResult::ok(format!("`{}`, from {}", context.user.name, context.user.source))
}

fn check_server(context: &Context, version: &ServerVersion) -> CheckResult {
    let own = env!("CARGO_PKG_VERSION");
    let message = format!("running at {}, version {}", context.client.url(), version.version);
    if version.version == own {
        return CheckResult::ok(message);
    }
    CheckResult::Warning {
        message,
        hint: format!("the CLI has version {own}; use the same version for both"),
    }
}

fn explain_unreachable(context: &Context, error: &Error) -> CheckResult {
    let url = context.client.url();
    let hint = match error {
        Error::Unreachable { source, .. } if source.is_connect() && url.is_default() => {
            return CheckResult::Warning {
                message: format!("not running at {url}"),
                hint: "`k8s-cli jobs submit` starts a server on demand, or start one with `k8s-cli api start`"
                    .to_owned(),
            };
        }
        Error::Untrusted { .. } | Error::Proxy { .. } | Error::WrongServer { .. } | Error::OutdatedServer { .. } => {
            error.hint().unwrap_or_default().to_owned()
        }
        Error::Unreachable { .. } => "check the URL, and that the server is running".to_owned(),
        Error::NotFound(_) | Error::InvalidResponse { .. } => PORT_IN_USE.to_owned(),
        _ => "see `k8s-cli api logs`".to_owned(),
    };
    CheckResult::Problem {
        message: error.to_string(),
        hint,
    }
}

fn check_backend(version: &ServerVersion) -> CheckResult {
    if version.backend == BackendKind::Embedded {
        return CheckResult::Warning {
            message: "run on the server's machine, without container images".to_owned(),
            hint: "to run tasks on a cluster, start the server with KUBECONFIG set".to_owned(),
        };
    }
    CheckResult::ok(format!(
        "run on Kubernetes {}, in namespace `{}`",
        version.kubernetes, version.namespace
    ))
}

async fn check_readiness(context: &Context) -> CheckResult {
    match context.client.get_bytes("/readyz").await {
        Ok(_) => CheckResult::ok("the server is ready".to_owned()),
        Err(error) => CheckResult::Problem {
            message: error.to_string(),
            hint: "the server recovers once the cluster is reachable; see `k8s-cli api logs`".to_owned(),
        },
    }
}

fn check_nodes(nodes: Result<&[ClusterNode], &Error>) -> CheckResult {
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(error) => {
            return CheckResult::Warning {
                message: format!("unknown: {error}"),
                hint: "the server needs permission to list nodes; see docs/OPERATIONS.md".to_owned(),
            };
        }
    };
    let ready: Vec<String> = nodes
        .iter()
        .filter(|node| node.ready)
        .map(|node| {
            format!(
                "{} ({} CPUs, {} memory)",
                node.name,
                node.cpus,
                format_memory(&node.memory)
            )
        })
        .collect();
    let unready = nodes.len() - ready.len();
    match (ready.as_slice(), unready) {
        ([], _) => CheckResult::Problem {
            message: format!("{}, none of them ready", plural(nodes.len(), "cluster node")),
            hint: "see `kubectl describe nodes`".to_owned(),
        },
        (ready, 0) => CheckResult::ok(summarize_names(ready)),
        (ready, unready) => CheckResult::Warning {
            message: format!(
                "{}; {} not ready",
                summarize_names(ready),
                plural(unready, "cluster node")
            ),
            hint: "see `kubectl describe nodes`".to_owned(),
        },
    }
}

/// Lists the first few names and counts the rest.
fn summarize_names(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

fn check_gpus(nodes: &[ClusterNode]) -> CheckResult {
    let gpu_nodes: Vec<&ClusterNode> = nodes.iter().filter(|node| node.gpus > 0).collect();
    if gpu_nodes.is_empty() {
        return CheckResult::Warning {
            message: "none found".to_owned(),
            hint: "tasks that request GPUs stay pending; to offer GPUs, install a device plugin on the cluster"
                .to_owned(),
        };
    }
    let count: u32 = gpu_nodes.iter().map(|node| node.gpus).sum();
    CheckResult::ok(format!("{count} on {}", plural(gpu_nodes.len(), "cluster node")))
}
