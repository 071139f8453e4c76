//! An archive without room: what makes room, what waits for it, and what does not wait.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::{Api, eventually};
use task::TaskState;
use task::record::TaskRecord;

use crate::archive::{archived_log, archived_text, archiving, record};

const LIMIT: Duration = Duration::from_secs(90);

/// 800,000 bytes that can hardly be compressed.
const LOUD: &str = "head -c 600000 /dev/urandom | base64 -w 0";

/// The record of a task that has ended, once it is written; the task may still be there.
async fn written_record(api: &Api, id: &str, limit: Duration) -> TaskRecord {
    eventually(limit, "the record of the task", async || {
        let answer = api.get(&format!("/history/{id}")).await;
        let record: TaskRecord = (answer.status == 200).then(|| answer.parsed())?;
        record.end.is_some().then_some(record)
    })
    .await
}

/// The size of all files in a directory.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

async fn metric(api: &Api, name: &str) -> f64 {
    let text = api.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let text = text.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_finished_tasks_make_room_also_while_the_tasks_are_there() {
    let (world, _archive) = archiving(&["--archive-max-size", "1"]).await;
    let api = &world.api;
    let mut ids = Vec::new();
    for script in [LOUD, LOUD, LOUD, "for ((i = 0; i < 30; i++)); do echo $i; done"] {
        let id = api.run(script).await;
        api.wait_for(&id, TaskState::Completed).await;
        assert_eq!(written_record(api, &id, LIMIT).await.logs[0].lost, None);
        ids.push(id);
    }
    assert_eq!(api.logs(&ids[0], "").await.len(), 800_000, "its pod still has it");
    let _ = api.stop(&ids[3]).await.ok();
    assert_eq!(archived_text(api, &ids[3], "").await.lines().count(), 30);
    let _ = api.stop(&ids[0]).await.ok();
    let deleted = api.get(&format!("/history/{}/logs", ids[0])).await.error(404);
    assert!(deleted.ends_with("is no longer in the archive"), "{deleted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_finished_tasks_of_a_user_at_the_limit_make_room() {
    let (world, _archive) = archiving(&["--archive-max-size-per-user", "1"]).await;
    let api = &world.api;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = api.run(LOUD).await;
        api.wait_for(&id, TaskState::Completed).await;
        written_record(api, &id, LIMIT).await;
        ids.push(id);
    }
    let _ = api.stop(&ids[2]).await.ok();
    assert_eq!(record(api, &ids[2]).await.logs[0].lost, None);
    assert_eq!(archived_log(api, &ids[2], "").await.len(), 800_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_at_the_limit_stops_a_task_without_waiting_for_room() {
    let (world, archive) = archiving(&["--archive-max-size-per-user", "1"]).await;
    let api = &world.api;
    let running = api.run("head -c 3000000 /dev/urandom | base64; sleep 600").await;
    eventually(LIMIT, "the limit to be reached", async || {
        (size(&archive.path().join("logs")) >= 1 << 20).then_some(())
    })
    .await;
    let id = api.run("echo last words").await;
    api.wait_for(&id, TaskState::Completed).await;
    let start = Instant::now();
    let _ = api.stop(&id).await.ok();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(metric(api, "k8s_cli_archive_waiting_logs").await >= 1.0);
    assert!(metric(api, "k8s_cli_archive_full").await < 1.0, "others have room");
    // The log of a task that has ended is archived, with or without its end, and then makes room.
    let _ = api.stop(&running).await.ok();
    for id in [&running, &id] {
        // The log has waited for room: up to a minute after its pod is gone, and once more for its end.
        let record = written_record(api, id, 3 * LIMIT).await;
        assert!(record.logs.len() <= 1, "{record:?}");
    }
}
