//! A generator of records in the archive: variations of one that a server has written, so that they are as large as real
//! ones and always of the current format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::http::Connection;
use crate::server::Server;

/// How long the template may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The users; the first is the one that asks.
pub(crate) const USERS: [&str; 20] = [
    "bench", "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "leo",
    "mallory", "niaj", "olivia", "peggy", "rupert", "sybil", "trent",
];

const PROJECTS: [&str; 5] = ["train", "eval", "finetune", "preprocess", "sweep-lr"];

/// Records are spread over this time. The archive may delete older ones.
const SPAN: SignedDuration = SignedDuration::from_hours(24 * 28);

/// One of this many tasks has failed.
const FAILED_EVERY: usize = 5;

/// One of this many tasks has failed with [`RARE`].
const RARE_EVERY: usize = 1000;

/// A message that few records have.
pub(crate) const RARE: &str = "CUDA error: device-side assert triggered";

/// Runs a task and returns its record, as the server has written it to its archive.
pub(crate) async fn template(state: &Path) -> anyhow::Result<Value> {
    let state_dir = state.to_str().context("the path of the state directory is not UTF-8")?;
    let server = Server::start(&["--backend", "embedded", "--state-dir", state_dir])?;
    let mut connection = Connection::open(&server.address).await?;
    let task = json!({
        "name": "train-7",
        "setup": "pip install --quiet numpy",
        "run": "for epoch in $(seq 100); do echo epoch $epoch; done; exit 3",
        "envs": {"LEARNING_RATE": "0.0003", "BATCH_SIZE": "256", "DATASET": "s3://datasets/imagenet"},
        "resources": {"cpus": 1, "memory": 1},
        "num_nodes": 1,
    });
    let answer = connection
        .send("POST", "/tasks/submit", Some(&task.to_string()))
        .await?;
    anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    let made: Value = serde_json::from_slice(&answer.body)?;
    let id = made["task_id"].as_str().context("the response has no task ID")?;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = connection.send("GET", &format!("/history/{id}"), None).await?;
        let record: Value = serde_json::from_slice(&answer.body)?;
        if record.get("end").is_some() {
            return Ok(record);
        }
        anyhow::ensure!(Instant::now() < deadline, "timed out waiting for the record of a task");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Writes `count` records to the folder of an archive. Returns their size together, in bytes.
pub(crate) fn generate(template: &Value, archive: &Path, count: usize) -> anyhow::Result<u64> {
    let newest = Timestamp::now();
    let pause = SPAN / i32::try_from(count.max(1))?;
    let mut made_dir = PathBuf::new();
    let mut bytes = 0;
    for index in 0..count {
        let created_at = newest - pause * i32::try_from(index)?;
        let record = vary(template.clone(), index, created_at).context("the record has another format")?;
        let time = created_at.to_zoned(TimeZone::UTC);
        let dir = archive.join("records").join(time.strftime("%Y-%m-%d").to_string());
        if dir != made_dir {
            std::fs::create_dir_all(&dir)?;
            made_dir = dir;
        }
        let submission = format!("{:032x}", fastrand::u128(..));
        let name = format!(
            "{}-{}-{submission}.json",
            time.strftime("%Y%m%dT%H%M%S.%6fZ"),
            id(index)
        );
        let content = serde_json::to_vec(&record)?;
        bytes += content.len() as u64;
        std::fs::write(made_dir.join(name), content)?;
    }
    Ok(bytes)
}

fn id(index: usize) -> String {
    format!("t{index:07}")
}

/// Makes the record of another task, with another user, name, time, and end.
fn vary(mut record: Value, index: usize, created_at: Timestamp) -> Option<Value> {
    let user = USERS[fastrand::usize(..USERS.len())];
    let name = format!("{}-{}", PROJECTS[index % PROJECTS.len()], fastrand::u32(..10_000));
    let start = created_at + SignedDuration::from_secs(fastrand::i64(1..60));
    let end = start + SignedDuration::from_secs(fastrand::i64(10..36_000));
    let time = |time: Timestamp| json!(time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
    let has_failed = index.is_multiple_of(FAILED_EVERY);
    let task = record.get_mut("task")?.as_object_mut()?;
    let reason = if has_failed { json!("Error") } else { Value::Null };
    let message = match (index.is_multiple_of(RARE_EVERY), has_failed) {
        (true, _) => json!(format!("node 0 failed: {RARE}")),
        (false, true) => json!(format!("node 0 failed with exit code {}", fastrand::u8(1..=255))),
        (false, false) => Value::Null,
    };
    for (key, value) in [
        ("task_id", json!(id(index))),
        ("name", json!(name)),
        ("username", json!(user)),
        ("status", json!(if has_failed { "failed" } else { "completed" })),
        ("reason", reason),
        ("message", message),
        ("created_at", time(created_at)),
        ("updated_at", time(end)),
    ] {
        *task.get_mut(key)? = value;
    }
    let node = task.get_mut("metadata")?.pointer_mut("/nodes/0")?.as_object_mut()?;
    node.insert("started_at".to_owned(), time(start));
    node.insert("finished_at".to_owned(), time(end));
    record["end"]["at"] = time(end);
    record["definition"]["name"] = json!(name);
    Some(record)
}
