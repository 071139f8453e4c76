//! Benchmark of a multi-node task, next to the same number of Jobs created without the server.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::Verdict;
use crate::http::Connection;
use crate::kubernetes::Kubernetes;
use crate::measure::{Samples, milliseconds};
use crate::server::Server;

/// Number of nodes of the task.
const NODES: usize = 200;

/// Number of concurrent creates without the server; the same as in the server.
const CONCURRENCY: usize = 32;

/// Number of reads of the status.
const READS: usize = 1000;

/// Measures `rounds` submits of such a task.
pub(crate) async fn measure(kubernetes: &Kubernetes, server: &Server, rounds: u32) -> anyhow::Result<Vec<Verdict>> {
    if rounds == 0 {
        return Ok(Vec::new());
    }
    eprintln!("{rounds} tasks of {NODES} nodes, alternating with the same number of Jobs without the server");
    // Only simulated cluster nodes have this many CPUs; their pods end by themselves, without waiting for the gate.
    let task = json!({
        "name": "gang", "num_nodes": NODES, "setup": "true", "run": "echo hello", "resources": {"cpus": 10},
    });
    let body = task.to_string();
    let mut connection = Connection::open(&server.address).await?;
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    let mut id = String::new();
    let template = server.manifest(&body).await?;
    for _ in 0..rounds {
        theirs += kubernetes.create(&template, CONCURRENCY, NODES).await?;
        kubernetes.calm().await?;
        let start = Instant::now();
        let answer = connection.send("POST", "/tasks/submit", Some(&body)).await?;
        ours += start.elapsed();
        let submitted: Value = serde_json::from_slice(&answer.body)?;
        id = submitted["task_id"]
            .as_str()
            .context("the response has no task ID")?
            .to_owned();
        kubernetes.calm().await?;
    }
    let statuses = statuses(&mut connection, &id).await?;
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let each = |all: Duration| format!("{:.0} ms", milliseconds(all / rounds));
    Ok(vec![
        Verdict {
            name: "submit of 200 nodes, all Jobs made",
            ours: each(ours),
            beside: format!("{} ({ratio:.2})", each(theirs)),
            bound: "under 3 times",
            kept: ratio < 3.0,
        },
        Verdict {
            name: "status of 200 nodes, median",
            ours: format!("{:.3} ms", milliseconds(statuses.median())),
            beside: String::new(),
            bound: "under 1 ms",
            kept: statuses.median() < Duration::from_millis(1),
        },
        Verdict::plain(
            "status of 200 nodes, slowest of 1000",
            format!("{:.3} ms", milliseconds(statuses.slowest())),
        ),
    ])
}

async fn statuses(connection: &mut Connection, id: &str) -> anyhow::Result<Samples> {
    let path = format!("/tasks/{id}");
    let mut samples = Samples::default();
    for _ in 0..READS {
        let start = Instant::now();
        let answer = connection.send("GET", &path, None).await?;
        samples.add(start.elapsed());
        anyhow::ensure!(answer.status == 200, "status {}", answer.status);
    }
    Ok(samples)
}
