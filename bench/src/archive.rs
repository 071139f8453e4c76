//! Benchmark of the archive: searches in many records, and the CPU that archiving takes.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::embedded::Scratch;
use crate::http::Connection;
use crate::measure::{Samples, mebibytes, milliseconds};
use crate::server::Server;
use crate::{Verdict, archiving, records};

/// The limits of the first page, of a search, of the index, and of the memory.
const PAGE_LIMIT: Duration = Duration::from_millis(20);
const SEARCH_LIMIT: Duration = Duration::from_millis(50);
const INDEX_LIMIT: Duration = Duration::from_secs(60);
const MEMORY_LIMIT: u64 = 150 << 20;

/// Amount of work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Numbers of records to measure with, e.g., 10000,100000,1000000 for the curve; the limits are those of 100,000
    #[arg(long, default_value = "100000", value_delimiter = ',')]
    records: Vec<usize>,

    /// Number of requests of each kind
    #[arg(long, default_value_t = 200)]
    requests: usize,

    #[command(flatten)]
    archiving: archiving::Args,
}

/// Measures with state directories of its own.
pub(crate) async fn run(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    if args.records.iter().any(|count| *count > 0) {
        let folder = Scratch::new();
        let template = records::template(folder.path()).await?;
        for count in args.records.iter().copied().filter(|count| *count > 0) {
            verdicts.extend(history(args, &template, count).await?);
        }
    }
    verdicts.extend(archiving::measure(&args.archiving).await?);
    Ok(verdicts)
}

/// A kind of request: its name, its path, and its limit.
type Kind = (&'static str, String, Duration, &'static str);

/// Measures a server with this many records.
async fn history(args: &Args, template: &Value, count: usize) -> anyhow::Result<Vec<Verdict>> {
    let folder = Scratch::new();
    let (archive, state) = (folder.path().join("archive"), folder.path().join("state"));
    eprintln!("writing {count} records");
    let bytes = records::generate(template, &archive, count)?;
    let mut verdicts = vec![Verdict {
        beside: format!("{:.0} MiB", mebibytes(bytes)),
        ..Verdict::plain("records", count.to_string())
    }];
    let (url, state) = (format!("file://{}", text(&archive)?), text(&state)?.to_owned());
    let arguments = ["--backend", "embedded", "--state-dir", &state, "--archive", &url];
    let (server, read) = Server::start_until(&arguments, "archive_read")?;
    verdicts.push(Verdict {
        name: "start until the index is built",
        ours: format!("{:.1} s", read.as_secs_f64()),
        beside: String::new(),
        bound: "100,000 under 60 s",
        kept: count > 100_000 || read < INDEX_LIMIT,
    });
    let built = server.resident()?;
    verdicts.push(Verdict::plain(
        "resident, after that",
        format!("{:.1} MiB", mebibytes(built)),
    ));
    let mut connection = Connection::open(&server.address).await?;
    for (name, path, limit, bound) in kinds(&mut connection).await? {
        let (samples, found) = requests(&mut connection, &path, args.requests).await?;
        verdicts.push(Verdict {
            name,
            ours: format!("{:.2} ms", milliseconds(samples.percentile(99))),
            beside: format!("median {:.2} ms, {found} found", milliseconds(samples.median())),
            bound,
            kept: count > 100_000 || samples.percentile(99) < limit,
        });
    }
    let resident = server.resident()?;
    verdicts.push(Verdict {
        name: "resident, after all requests",
        ours: format!("{:.1} MiB", mebibytes(resident)),
        beside: String::new(),
        bound: "100,000 under 150 MiB",
        kept: count > 100_000 || resident < MEMORY_LIMIT,
    });
    drop(server);
    let (_server, read) = Server::start_until(&arguments, "archive_read")?;
    verdicts.push(Verdict::plain(
        "start with the index",
        format!("{:.1} s", read.as_secs_f64()),
    ));
    Ok(verdicts)
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("the path of the archive is not UTF-8")
}

async fn kinds(connection: &mut Connection) -> anyhow::Result<Vec<Kind>> {
    let page = |name, query: &str| (name, format!("/history{query}"), PAGE_LIMIT, "100,000 under 20 ms");
    let search = |name, query: &str| (name, format!("/history{query}"), SEARCH_LIMIT, "100,000 under 50 ms");
    let rare = records::RARE.replace(' ', "%20");
    // One task from the middle of the list, after which the deep page begins.
    let answer = connection
        .send("GET", "/history?all_users=true&limit=1&until=14d", None)
        .await?;
    let middle: Value = serde_json::from_slice(&answer.body)?;
    let cursor = middle["next_cursor"].as_str().context("there is no deep page")?;
    Ok(vec![
        page("first page, 99 of 100", ""),
        page("  of all users", "?all_users=true"),
        page("deep page of all users", &format!("?all_users=true&cursor={cursor}")),
        search("status=failed", "?status=failed"),
        search("  of all users", "?all_users=true&status=failed"),
        search("  and none", "?all_users=true&status=pending"),
        search("name=eval-*", "?name=eval-*"),
        search("  of all users, few", "?all_users=true&name=eval-77?7"),
        search("user=carol", "?user=carol"),
        search("q, few", &format!("?q={rare}")),
        search("  of all users", &format!("?all_users=true&q={rare}")),
        search("  of all users, none", "?all_users=true&q=no%20such%20text"),
        search("since=7d until=6d of all users", "?all_users=true&since=7d&until=6d"),
    ])
}

/// Returns the times, and the number of tasks in the page.
async fn requests(connection: &mut Connection, path: &str, count: usize) -> anyhow::Result<(Samples, usize)> {
    let mut samples = Samples::default();
    let mut found = 0;
    for _ in 0..count {
        let start = std::time::Instant::now();
        let answer = connection.send("GET", path, None).await?;
        samples.add(start.elapsed());
        anyhow::ensure!(
            answer.status == 200,
            "{path}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        let page: Value = serde_json::from_slice(&answer.body)?;
        found = page["tasks"].as_array().context("the page has no tasks")?.len();
    }
    Ok((samples, found))
}
