//! Benchmark of the server on a cluster, next to kube-apiserver alone.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::http::Connection;
use crate::kubernetes::Kubernetes;
use crate::measure::{self, Samples, mebibytes, milliseconds, rate, repeat};
use crate::server::Server;
use crate::{Verdict, gang};

/// Amount of work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of tasks
    #[arg(long, default_value_t = 2000)]
    tasks: usize,

    /// Number of concurrent requests
    #[arg(long, default_value_t = 32)]
    concurrency: usize,

    /// Number of submits of a 200-node task
    #[arg(long, default_value_t = 5)]
    gangs: u32,

    /// Time to measure each rate of reads, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Measures in a namespace of its own.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let kubernetes = Kubernetes::connect().await?;
    let result = measure(args, &kubernetes).await;
    kubernetes.delete().await;
    result
}

async fn measure(args: &Args, kubernetes: &Kubernetes) -> anyhow::Result<Vec<Verdict>> {
    let server = Server::start(&["--backend", "cluster", "--namespace", &kubernetes.namespace])?;
    let idle = server.resident()?;
    eprintln!(
        "creating {} tasks through the server, alternating with the same number of Jobs without it",
        args.tasks
    );
    let (submits, creates) = create(args, kubernetes, &server).await?;
    kubernetes.settle(args.tasks).await?;
    let id = first_task(&server).await?;
    let job = kubernetes.any_job().await?;
    let limit = Duration::from_secs(args.seconds);

    eprintln!("reading one status for {} s, and one Job for as long", args.seconds);
    let statuses = reads(args.concurrency, limit, &server, &format!("/tasks/{id}")).await?;
    let gets = kubernetes.reads(args.concurrency, limit, &job).await?;
    eprintln!("listing");
    let lists = lists(&server, args.tasks).await?;
    let apiserver_list = kubernetes.list_time().await?;
    let resident = server.resident()?;
    let gang = gang::measure(kubernetes, &server, args.gangs).await?;

    let mut verdicts = vec![
        Verdict {
            name: "submit, rate",
            ours: format!("{submits:.0}/s"),
            beside: format!("{creates:.0}/s ({:.2})", submits / creates),
            bound: "at least 0.7",
            kept: submits >= 0.7 * creates,
        },
        Verdict {
            name: "status, rate",
            ours: format!("{statuses:.0}/s"),
            beside: format!("{gets:.0}/s ({:.1})", statuses / gets),
            bound: "at least 10 times",
            kept: statuses >= 10.0 * gets,
        },
        Verdict {
            name: "list, median",
            ours: format!("{:.2} ms", milliseconds(lists.median())),
            beside: format!("{:.0} ms", milliseconds(apiserver_list)),
            bound: "under 10 ms",
            kept: lists.median() < Duration::from_millis(10),
        },
        Verdict::plain(
            "list, slowest of 100",
            format!("{:.2} ms", milliseconds(lists.slowest())),
        ),
        Verdict::plain("resident, before the tasks", format!("{:.1} MiB", mebibytes(idle))),
        Verdict {
            name: "resident, after all",
            ours: format!("{:.1} MiB", mebibytes(resident)),
            beside: String::new(),
            bound: "under 40 MiB",
            kept: resident < 40 << 20,
        },
    ];
    verdicts.extend(gang);
    Ok(verdicts)
}

/// Creates tasks and Jobs in alternation, so that a machine that slows down slows down both. Returns both rates.
async fn create(args: &Args, kubernetes: &Kubernetes, server: &Server) -> anyhow::Result<(f64, f64)> {
    const ROUNDS: usize = 8;
    let share = args.tasks / ROUNDS;
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    let body = json!({"name": "bench", "run": "echo hello", "resources": {"cpus": "1m"}}).to_string();
    let template = server.manifest(&body).await?;
    for _ in 0..ROUNDS {
        theirs += kubernetes.create(&template, args.concurrency, share).await?;
        // Each leaves work to the controllers, which must not slow down the other.
        kubernetes.calm().await?;
        ours += repeat(
            args.concurrency,
            share,
            async || {
                let connection = Connection::open(&server.address).await?;
                Ok((connection, body.clone()))
            },
            async |(connection, body)| {
                let answer = connection.send("POST", "/tasks/submit", Some(body)).await?;
                anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
                Ok(())
            },
        )
        .await?;
        kubernetes.calm().await?;
    }
    let created = share * ROUNDS;
    Ok((rate(created, ours), rate(created, theirs)))
}

async fn first_task(server: &Server) -> anyhow::Result<String> {
    let mut connection = Connection::open(&server.address).await?;
    let answer = connection.send("GET", "/tasks", None).await?;
    let list: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let id = list["tasks"][0]["task_id"].as_str().context("the list has no task")?;
    Ok(id.to_owned())
}

async fn reads(concurrency: usize, limit: Duration, server: &Server, path: &str) -> anyhow::Result<f64> {
    measure::for_a_while(
        concurrency,
        limit,
        async || Connection::open(&server.address).await,
        async |connection| {
            let answer = connection.send("GET", path, None).await?;
            anyhow::ensure!(answer.status == 200, "status {}", answer.status);
            Ok(())
        },
    )
    .await
}

async fn lists(server: &Server, tasks: usize) -> anyhow::Result<Samples> {
    let mut connection = Connection::open(&server.address).await?;
    let mut samples = Samples::default();
    for _ in 0..100 {
        let start = std::time::Instant::now();
        let answer = connection.send("GET", "/tasks", None).await?;
        samples.add(start.elapsed());
        let found = answer
            .body
            .windows(11)
            .filter(|window| window == b"\"task_id\":\"")
            .count();
        anyhow::ensure!(found >= tasks - tasks % 8, "{found} tasks of {tasks}");
    }
    Ok(samples)
}
