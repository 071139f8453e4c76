//! Very many who follow the log of one task that says nothing: what each of them costs.

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::Verdict;
use crate::embedded::Scratch;
use crate::http::Connection;
use crate::measure::mebibytes;
use crate::server::Server;

/// How many connect at once.
const CONCURRENCY: usize = 64;

/// How much to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many follow the log. Each needs a file descriptor here and one in the server (`ulimit -n`).
    #[arg(long, default_value_t = 10_000)]
    followers: usize,
}

/// Measures, with a state folder of its own.
pub async fn run(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let folder = Scratch::new();
    let state = folder.path().to_str().context("the folder's name is a text")?;
    let connections = (args.followers + 100).to_string();
    let arguments = [
        "--backend",
        "embedded",
        "--state-dir",
        state,
        "--max-connections",
        &connections,
    ];
    let server = Server::start(&arguments)?;
    let mut connection = Connection::open(&server.address).await?;
    let task = json!({"run": "echo hello; sleep 3600"}).to_string();
    let answer = connection.send("POST", "/tasks/submit", Some(&task)).await?;
    let made: Value = serde_json::from_slice(&answer.body)?;
    let id = made["task_id"].as_str().context("a task has an identifier")?;
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
