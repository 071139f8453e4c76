//! Objects of the archive that are lost or damaged, and logs of tasks that are ending.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{CommandLine, eventually};
use http::header;
use reqwest::{Method, Response};
use task::TaskState;

use crate::archive::{archived_text, archiving, record};

const LIMIT: Duration = Duration::from_secs(60);

/// The frames of the only log in an archive, in order.
fn frames(archive: &Path) -> Vec<PathBuf> {
    // DAY/TASK/RANK/POD/FRAME
    let mut files = vec![archive.join("logs")];
    for _ in 0..5 {
        let entries = files.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
        files = entries.map(|entry| entry.unwrap().path()).collect();
    }
    files.retain(|file| !file.ends_with("end"));
    files.sort();
    files
}

/// A frame is a few seconds of a quiet log.
#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_is_damaged_or_lost_is_a_line_and_the_command_line_ends() {
    let (world, archive) = archiving(&[]).await;
    let line = CommandLine::of(&world);
    let id = world.api.run("echo one; sleep 7; echo two; sleep 12; echo three").await;
    world.api.wait_for(&id, TaskState::Completed).await;
    let _ = world.api.stop(&id).await.ok();
    record(&world.api, &id).await;
    let frames = frames(archive.path());
    assert_eq!(frames.len(), 3, "{frames:?}");
    let whole = std::fs::read(&frames[1]).unwrap();
    let notice = "[k8s-cli: a part of the log is missing here: 1 lines, 35 bytes; the archive is damaged]";
    for kept in [Some(whole.len() - 1), Some(0), None] {
        match kept {
            Some(length) => std::fs::write(&frames[1], &whole[..length]).unwrap(),
            None => std::fs::remove_file(&frames[1]).unwrap(),
        }
        let read = archived_text(&world.api, &id, "").await;
        assert_eq!(read, format!("one\n{notice}\nthree\n"), "{kept:?}");
        assert_eq!(line.run(&["jobs", "logs", &id]).ok(), read);
    }
}

async fn past_log(world: &e2e::World, id: &str) -> Response {
    let path = format!("/history/{id}/logs?follow=false");
    world.api.request(Method::GET, &path).send().await.unwrap()
}

fn header_of(response: &Response, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_task_that_is_ending_has_what_was_seen_and_is_not_cached() {
    let (world, _archive) = archiving(&[]).await;
    let id = world
        .api
        .run("trap 'sleep 10; exit 1' TERM; echo seen; sleep 600 & wait")
        .await;
    world.api.wait_for_log(&id, |log| log == "seen\n").await;
    let _ = world.api.stop(&id).await.ok();
    eventually(LIMIT, "the task to be gone", async || {
        (world.api.try_status(&id).await.status == 404).then_some(())
    })
    .await;
    let ending = past_log(&world, &id).await;
    assert_eq!(header_of(&ending, header::CACHE_CONTROL), Some("no-cache"));
    assert_eq!(ending.text().await.unwrap(), "seen\n");
    record(&world.api, &id).await;
    let ended = past_log(&world, &id).await;
    assert_eq!(header_of(&ended, header::CACHE_CONTROL), Some("private, max-age=60"));
    assert_eq!(header_of(&ended, header::VARY), Some("x-user"));
    assert_eq!(ended.text().await.unwrap(), "seen\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_has_what_the_nodes_requested_by_default() {
    let (world, _archive) = archiving(&["--default-requests", "skypilot"]).await;
    // Times are whole seconds.
    let id = world.api.run("sleep 2").await;
    world.api.wait_for(&id, TaskState::Completed).await;
    let _ = world.api.stop(&id).await.ok();
    let record = record(&world.api, &id).await;
    let requests = record.requests.unwrap();
    assert_eq!((requests.cpus, requests.memory_gib), (2.0, 2.0));
    assert!(record.usage.cpu_hours > 0.0);
}
