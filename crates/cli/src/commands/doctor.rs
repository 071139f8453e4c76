//! `k8s-cli doctor`: checks everything that a task needs.

use task::wire::{BackendKind, ClusterNode, ServerVersion};

use crate::client::Nodes;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{memory, plural, print};

/// The result of one check.
enum Finding {
    Good(String),
    /// It works, but maybe not as intended.
    Doubtful {
        what: String,
        remedy: String,
    },
    Bad {
        what: String,
        remedy: String,
    },
}

/// Runs the checks. Prints all results before failing, so that one run shows every problem.
pub async fn run(context: &Context) -> Result<()> {
    let mut findings = vec![("user", user(context))];
    match context.client.get::<ServerVersion>("/version").await {
        Ok(version) => {
            findings.push(("server", server(context, &version)));
            findings.push(("tasks", backend(&version)));
            findings.push(("ready", ready(context).await));
            let found = context.client.get::<Nodes>("/nodes").await;
            let machines = found.map(|found| found.nodes);
            findings.push(("nodes", nodes(machines.as_deref())));
            findings.push(("gpus", gpus(machines.as_deref().unwrap_or_default())));
        }
        Err(error) => findings.push(("server", unreachable(context, &error))),
    }
    let mut problems = 0;
    let mut text = String::new();
    for (topic, finding) in findings {
        text.push_str(&line(topic, &finding));
        problems += usize::from(matches!(finding, Finding::Bad { .. }));
    }
    print(&text)?;
    match problems {
        0 => Ok(()),
        count => Err(Error::Several(format!("found {}", plural(count, "problem")))),
    }
}

fn line(topic: &str, finding: &Finding) -> String {
    use anstyle::AnsiColor::{Green, Red, Yellow};
    let (color, word, what, remedy) = match finding {
        Finding::Good(what) => (Green, "ok", what, None),
        Finding::Doubtful { what, remedy } => (Yellow, "note", what, Some(remedy)),
        Finding::Bad { what, remedy } => (Red, "bad", what, Some(remedy)),
    };
    let style = color.on_default().bold();
    let mut text = format!("{style}{word:<5}{style:#} {topic:<7} {what}\n");
    if let Some(remedy) = remedy {
        text.push_str(&format!("{:<13} -> {remedy}\n", ""));
    }
    text
}

fn user(context: &Context) -> Finding {
    Finding::Good(format!("`{}`, from {}", context.user.name, context.user.source))
}

fn server(context: &Context, version: &ServerVersion) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let what = format!("running at {}, version {}", context.client.url(), version.version);
    if version.version == own {
        return Finding::Good(what);
    }
    Finding::Doubtful {
        what,
        remedy: format!("the CLI has version {own}; use the same version for both"),
    }
}

fn unreachable(context: &Context, error: &Error) -> Finding {
    let url = context.client.url();
    let remedy = match error {
        Error::Unreachable { source, .. } if source.is_connect() && url.is_default() => {
            return Finding::Doubtful {
                what: format!("not running at {url}"),
                remedy: "`k8s-cli jobs submit` starts a server on demand, or start one with `k8s-cli api start`".to_owned(),
            };
        }
        Error::Untrusted { .. } | Error::Stranger { .. } | Error::Outdated { .. } => {
            error.hint().unwrap_or_default().to_owned()
        }
        Error::Unreachable { .. } => "check the URL, and that the server is running".to_owned(),
        Error::NotFound(_) | Error::Answer { .. } => {
            "another program may be using that port; set the server with `--api-url`, or another port with K8S_CLI_API_PORT"
                .to_owned()
        }
        _ => "see `k8s-cli api logs`".to_owned(),
    };
    Finding::Bad {
        what: error.to_string(),
        remedy,
    }
}

fn backend(version: &ServerVersion) -> Finding {
    if version.backend == BackendKind::Embedded {
        return Finding::Doubtful {
            what: "run on the server's machine, without container images".to_owned(),
            remedy: "to run tasks on a cluster, start the server with KUBECONFIG set".to_owned(),
        };
    }
    Finding::Good(format!(
        "run on Kubernetes {}, in namespace `{}`",
        version.kubernetes, version.namespace
    ))
}

async fn ready(context: &Context) -> Finding {
    match context.client.get_bytes("/readyz").await {
        Ok(_) => Finding::Good("the server is ready".to_owned()),
        Err(error) => Finding::Bad {
            what: error.to_string(),
            remedy: "the server recovers once the cluster is reachable; see `k8s-cli api logs`".to_owned(),
        },
    }
}

fn nodes(nodes: Result<&[ClusterNode], &Error>) -> Finding {
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(error) => {
            return Finding::Doubtful {
                what: format!("unknown: {error}"),
                remedy: "the server needs permission to list nodes; see docs/OPERATIONS.md".to_owned(),
            };
        }
    };
    let ready: Vec<String> = nodes
        .iter()
        .filter(|node| node.ready)
        .map(|node| format!("{} ({} CPUs, {} memory)", node.name, node.cpus, memory(&node.memory)))
        .collect();
    let unready = nodes.len() - ready.len();
    match (ready.as_slice(), unready) {
        ([], _) => Finding::Bad {
            what: format!("{}, none of them ready", plural(nodes.len(), "cluster node")),
            remedy: "see `kubectl describe nodes`".to_owned(),
        },
        (ready, 0) => Finding::Good(shortened(ready)),
        (ready, unready) => Finding::Doubtful {
            what: format!("{}; {} not ready", shortened(ready), plural(unready, "cluster node")),
            remedy: "see `kubectl describe nodes`".to_owned(),
        },
    }
}

/// Lists the first few names and counts the rest.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 4;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

fn gpus(nodes: &[ClusterNode]) -> Finding {
    let with: Vec<&ClusterNode> = nodes.iter().filter(|node| node.gpus > 0).collect();
    if with.is_empty() {
        return Finding::Doubtful {
            what: "none found".to_owned(),
            remedy: "tasks that request GPUs stay pending; to offer GPUs, install a device plugin on the cluster"
                .to_owned(),
        };
    }
    let count: u32 = with.iter().map(|node| node.gpus).sum();
    Finding::Good(format!("{count} on {}", plural(with.len(), "cluster node")))
}
