//! The CPU that the server takes for archiving, from `/proc`: the same tasks with and without an archive.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::Verdict;
use crate::embedded::Scratch;
use crate::http::Connection;
use crate::server::Server;

/// Time limit for all tasks to start, and for the loud one to end.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How often the end of the loud task is looked for. The same with and without an archive.
const POLL: Duration = Duration::from_millis(200);

/// Bytes of a line of the loud task, about.
const LINE: usize = 128;

/// Amount of work.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of quiet tasks, each of which writes a line every 10 s; 0 to leave them out
    #[arg(long, default_value_t = 100)]
    quiet: usize,

    /// Time to measure the quiet tasks, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// Size of the log of a loud task, in MiB; 0 to leave it out
    #[arg(long, default_value_t = 200)]
    loud: usize,

    /// Number of runs with and without an archive, in alternation; the median counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// Measures both.
pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    if args.quiet > 0 {
        verdicts.push(quiet_tasks(args).await?);
    }
    if args.loud > 0 {
        verdicts.extend(loud_task(args).await?);
    }
    Ok(verdicts)
}

/// Starts a server with a state directory of its own, with the archive in it or without one.
fn start(has_archive: bool) -> anyhow::Result<(Server, Scratch)> {
    let folder = Scratch::new();
    let state = folder
        .path()
        .to_str()
        .context("the path of the state directory is not UTF-8")?;
    let url = format!("file://{state}/archive");
    let archive = if has_archive { url.as_str() } else { "none" };
    let server = Server::start(&["--backend", "embedded", "--state-dir", state, "--archive", archive])?;
    Ok((server, folder))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

async fn submit(connection: &mut Connection, script: &str) -> anyhow::Result<String> {
    let task = json!({"run": script, "resources": {"cpus": "1m"}}).to_string();
    let answer = connection.send("POST", "/tasks/submit", Some(&task)).await?;
    anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    let made: Value = serde_json::from_slice(&answer.body)?;
    Ok(made["task_id"]
        .as_str()
        .context("the response has no task ID")?
        .to_owned())
}

async fn quiet_tasks(args: &Args) -> anyhow::Result<Verdict> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for run in 0..args.runs {
        eprintln!(
            "{} quiet tasks for {} s without and with an archive, {} of {}",
            args.quiet,
            args.seconds,
            run + 1,
            args.runs
        );
        without.push(quiet_time(args, false).await?);
        with.push(quiet_time(args, true).await?);
    }
    let percent = |time: Duration| time.as_secs_f64() / args.seconds as f64 * 100.0;
    let (without, with) = (percent(median(without)), percent(median(with)));
    Ok(Verdict {
        name: "archiving of quiet tasks, of a core",
        ours: format!("{:.2} %", with - without),
        beside: format!("{with:.2} % - {without:.2} %"),
        bound: "100 under 5 %",
        kept: with - without < 5.0,
    })
}

/// The CPU time of the server while all tasks write a line now and then.
async fn quiet_time(args: &Args, has_archive: bool) -> anyhow::Result<Duration> {
    let (server, folder) = start(has_archive)?;
    let mut connection = Connection::open(&server.address).await?;
    let deadline = Instant::now() + TIMEOUT;
    for _ in 0..args.quiet {
        // The tasks write at different times.
        let pause = fastrand::u32(0..10_000);
        let script = format!(
            "echo begun; sleep {}.{:03}; while true; do echo still here; sleep 10; done",
            pause / 1000,
            pause % 1000
        );
        submit(&mut connection, &script).await?;
    }
    loop {
        let answer = connection.send("GET", "/tasks", None).await?;
        let list = String::from_utf8_lossy(&answer.body).into_owned();
        if list.matches("\"running_nodes\":1").count() == args.quiet {
            break;
        }
        anyhow::ensure!(Instant::now() < deadline, "timed out waiting for the tasks to run");
        sleep(POLL).await;
    }
    // The first frames of all logs are written after 5 s; they belong to the start.
    sleep(Duration::from_secs(10)).await;
    let before = server.cpu_time()?;
    sleep(Duration::from_secs(args.seconds)).await;
    let after = server.cpu_time()?;
    stop_all(&mut connection, folder.path()).await?;
    Ok(after.saturating_sub(before))
}

/// Stops all tasks and waits for the end of their containers, which outlive their server.
async fn stop_all(connection: &mut Connection, state: &Path) -> anyhow::Result<()> {
    let answer = connection.send("GET", "/tasks", None).await?;
    let list: Value = serde_json::from_slice(&answer.body)?;
    for task in list["tasks"].as_array().into_iter().flatten() {
        let id = task["task_id"].as_str().context("a task has no ID")?;
        let answer = connection
            .send("POST", &format!("/tasks/{id}/stop"), Some("null"))
            .await?;
        anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    }
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if std::fs::read_dir(state.join("pods"))?.next().is_none() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "timed out waiting for the tasks to end");
        sleep(POLL).await;
    }
}

/// Who reads the log of the loud task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Nobody,
    Follower,
    Archive,
}

async fn loud_task(args: &Args) -> anyhow::Result<Vec<Verdict>> {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for run in 0..args.runs {
        eprintln!(
            "a log of {} MiB with no reader, a follower, and the archive, {} of {}",
            args.loud,
            run + 1,
            args.runs
        );
        for (times, reader) in times
            .iter_mut()
            .zip([Reader::Nobody, Reader::Follower, Reader::Archive])
        {
            times.push(loud_time(args, reader).await?);
        }
    }
    let [nobody, follower, archive] = times.map(median);
    let net = |time: Duration| time.saturating_sub(nobody).as_secs_f64();
    let ratio = net(archive) / net(follower);
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    Ok(vec![
        Verdict::plain("CPU for a loud task, nobody reads", seconds(nobody)),
        Verdict::plain("  with one follower", seconds(follower)),
        Verdict::plain("  with the archive", seconds(archive)),
        Verdict {
            name: "archiving of a loud task",
            ours: format!("{:.2} s", net(archive)),
            beside: format!("follower {:.2} s ({ratio:.2})", net(follower)),
            bound: "under 1.3 times",
            kept: ratio < 1.3,
        },
    ])
}

/// The CPU time of the server from the submit of the loud task until its log is read and its record written.
async fn loud_time(args: &Args, reader: Reader) -> anyhow::Result<Duration> {
    let (server, _folder) = start(reader == Reader::Archive)?;
    let mut connection = Connection::open(&server.address).await?;
    let before = server.cpu_time()?;
    let lines = (args.loud << 20) / LINE;
    // Like the log of a training run: numbers that differ between words that do not.
    let script = format!(
        "for ((n = 0; n < {lines}; n++)); do \
         printf 'step %09d of {lines:09}, loss 0.%05d, accuracy 0.%05d, learning rate 0.00030, throughput %05d samples/s, \
         GPU memory 61.2 GiB\\n' $n $RANDOM $RANDOM $RANDOM; done"
    );
    let id = submit(&mut connection, &script).await?;
    let following = async {
        if reader == Reader::Follower {
            let bytes = Connection::open(&server.address).await?.whole_log(&id).await?;
            anyhow::ensure!(bytes > args.loud << 20, "the log has only {bytes} bytes");
        }
        Ok(())
    };
    let ending = async {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let answer = connection.send("GET", &format!("/tasks/{id}"), None).await?;
            let task: Value = serde_json::from_slice(&answer.body)?;
            let has_ended = task["status"] == "completed";
            if has_ended && (reader != Reader::Archive || has_record(&mut connection, &id).await?) {
                return anyhow::Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "timed out waiting for the loud task");
            sleep(POLL).await;
        }
    };
    tokio::try_join!(following, ending)?;
    Ok(server.cpu_time()?.saturating_sub(before))
}

async fn has_record(connection: &mut Connection, id: &str) -> anyhow::Result<bool> {
    let answer = connection.send("GET", &format!("/history/{id}"), None).await?;
    let record: Value = serde_json::from_slice(&answer.body)?;
    Ok(record.get("end").is_some())
}
