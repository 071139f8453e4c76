//! Benchmark of many followers of one silent log: the cost of each.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::Verdict;
use crate::embedded::Scratch;
use crate::http::Connection;
use crate::measure::mebibytes;
use crate::server::Server;

/// Number of concurrent connection attempts.
const CONCURRENCY: usize = 64;

/// Amount of work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of followers; each needs a file descriptor here and one in the server (`ulimit -n`)
    #[arg(long, default_value_t = 10_000)]
    followers: usize,
}

/// Measures with a state directory of its own.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let folder = Scratch::new();
    let state = folder
        .path()
        .to_str()
        .context("the path of the state directory is not UTF-8")?;
    let connections = (args.followers + 100).to_string();
    let arguments = [
        "--backend",
        "embedded",
        "--state-dir",
        state,
        "--max-connections",
        &connections,
        "--max-connections-per-client",
        &connections,
        "--max-streams",
        &connections,
        "--max-streams-per-user",
        &connections,
    ];
    let server = Server::start(&arguments)?;
    let mut connection = Connection::open(&server.address).await?;
    let task = json!({"run": "echo hello; sleep 3600"}).to_string();
    let answer = connection.send("POST", "/tasks/submit", Some(&task)).await?;
    let made: Value = serde_json::from_slice(&answer.body)?;
    let id = made["task_id"].as_str().context("the response has no task ID")?;
    let before = server.resident()?;
    let following: Vec<Connection> = stream::iter(0..args.followers)
        .map(async |_| {
            let mut connection = Connection::open(&server.address).await?;
            connection.first_byte_of_log(id).await?;
            anyhow::Ok(connection)
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    let after = server.resident()?;
    let answer = connection.send("POST", &format!("/tasks/{id}/stop"), None).await?;
    anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    let each = after.saturating_sub(before) / 1024 / following.len().max(1) as u64;
    Ok(vec![
        Verdict::plain(
            "resident, before the followers",
            format!("{:.1} MiB", mebibytes(before)),
        ),
        Verdict {
            name: "resident, with all followers",
            ours: format!("{:.1} MiB", mebibytes(after)),
            beside: format!("{} followers, {each} KiB each", following.len()),
            bound: "10,000 under 190 MiB",
            kept: after < 190 << 20,
        },
    ])
}
