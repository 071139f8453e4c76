//! Servers are killed at random moments while they archive: each line is in the archive once, and in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::{Api, CommandLine, Server, World, eventually, from_environment, small_task};
use futures::future::join_all;
use serde_json::Value;
use task::TaskState;
use task::record::TaskRecord;

use crate::archive::{archived_text, archiving, record};

/// Number of tasks that write at the same time.
const TASKS: usize = 20;

/// Every fifth task is loud: the archive writes its frames because they are large, and those of the others because
/// they are old.
const LOUD: usize = 5;

/// The most lines of one task. The kubelet begins a new file after 10 MiB, and only the newest one can be read: what a
/// killed server had not archived by then would be missing, and marked.
const MAX_LINES: usize = 60_000;

/// What a task writes: each second some lines, with consecutive numbers.
#[derive(Debug, Clone, Copy)]
struct Writer {
    seconds: usize,
    lines_per_second: usize,
}

impl Writer {
    /// A writer that ends in the second half of this time, so that records are written between kills, too.
    fn random(index: usize, seconds: usize) -> Self {
        let seconds = fastrand::usize(seconds / 2..=seconds);
        let lines = if index.is_multiple_of(LOUD) { 2000 } else { 20 };
        Self {
            seconds,
            lines_per_second: lines.min(MAX_LINES / seconds),
        }
    }

    fn script(self) -> String {
        let Self {
            seconds,
            lines_per_second,
        } = self;
        format!(
            "n=0; for ((second = 0; second < {seconds}; second++)); do \
             for ((i = 0; i < {lines_per_second}; i++)); do echo \"line $((n++))\"; done; sleep 1; done"
        )
    }

    fn lines(self) -> usize {
        self.seconds * self.lines_per_second
    }

    /// Checks that a log has each line once and in order.
    fn assert_log(self, id: &str, log: &str) {
        let mut found = log.lines();
        for number in 0..self.lines() {
            assert_eq!(found.next(), Some(format!("line {number}").as_str()), "{id} {self:?}");
        }
        assert_eq!(found.next(), None, "{id} {self:?}");
    }
}

async fn submit_all(api: &Api, seconds: usize) -> Vec<(String, Writer)> {
    let submitting = (0..TASKS).map(async |index| {
        let writer = Writer::random(index, seconds);
        (api.submit(&small_task(writer.script())).await, writer)
    });
    join_all(submitting).await
}

/// A random pause before a kill. Frames of quiet logs are written after 5 seconds, so half of the kills are about then.
fn pause() -> Duration {
    let milliseconds = if fastrand::bool() { 1..8000 } else { 4800..6000 };
    Duration::from_millis(fastrand::u64(milliseconds))
}

/// Number of kills, and about how many seconds they take.
fn kills() -> (usize, usize) {
    let kills = from_environment("K8S_CLI_E2E_ARCHIVE_KILLS", 12);
    (kills, kills * 5)
}

/// Waits until all tasks have ended and are archived, deletes them, and checks what is in the archive.
async fn assert_archived(world: &World, archive: &Path, tasks: &[(String, Writer)]) {
    for (id, writer) in tasks {
        world
            .api
            .wait_for_status(id, Duration::from_secs(180), "the writer to end", |status| {
                status.status == TaskState::Completed
            })
            .await;
        let archived = eventually(Duration::from_secs(60), "the record", async || {
            let record: TaskRecord = world.api.get(&format!("/history/{id}")).await.parsed();
            record.end.is_some().then_some(record)
        })
        .await;
        let logs: Vec<(u64, Option<&str>)> = archived
            .logs
            .iter()
            .map(|log| (log.lines, log.lost.as_deref()))
            .collect();
        assert_eq!(logs, [(writer.lines() as u64, None)], "{id} {writer:?}");
    }
    let stopped = join_all(tasks.iter().map(|(id, _)| world.api.stop(id))).await;
    for answer in stopped {
        let _ = answer.ok();
    }
    for (id, writer) in tasks {
        record(&world.api, id).await;
        writer.assert_log(id, &archived_text(&world.api, id, "").await);
    }
    let line = CommandLine::of(world);
    for (id, writer) in &tasks[..2] {
        writer.assert_log(id, &line.run(&["jobs", "logs", id]).ok());
    }
    let frames = assert_frames(archive, tasks.len());
    let lines: usize = tasks.iter().map(|(_, writer)| writer.lines()).sum();
    println!("{lines} lines of {} tasks in {frames} frames", tasks.len());
}

/// Checks that each log consists of consecutive frames, each of which begins where the one before ends. Returns how many
/// there are.
fn assert_frames(archive: &Path, logs: usize) -> usize {
    let mut names: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    // DAY/TASK/RANK/POD/FRAME
    let mut files = vec![archive.join("logs")];
    for _ in 0..5 {
        let entries = files.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
        files = entries.map(|entry| entry.unwrap().path()).collect();
    }
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        names.entry(file.parent().unwrap().to_owned()).or_default().push(name);
    }
    assert_eq!(names.len(), logs);
    let mut count = 0;
    for (log, mut names) in names {
        // What a killed server had begun to write has another name until it is complete.
        names.retain(|name| !name.contains('#'));
        names.sort_unstable();
        let frames = names.len() - 1;
        let expected = (0..frames).map(|number| format!("{number:08}"));
        assert_eq!(names, expected.chain(["end".to_owned()]).collect::<Vec<_>>(), "{log:?}");
        let end: Value = serde_json::from_slice(&std::fs::read(log.join("end")).unwrap()).unwrap();
        let headers: Vec<Value> = names[..frames].iter().map(|name| header(&log.join(name))).collect();
        assert_eq!(end["frames"], Value::Array(headers.clone()), "{log:?}");
        let mut before = &Value::Null;
        for header in &headers {
            assert_eq!(&header["before"], before, "{log:?}");
            before = &header["after"];
        }
        count += frames;
    }
    count
}

fn header(frame: &Path) -> Value {
    let content = std::fs::read(frame).unwrap();
    let end = content.iter().position(|byte| *byte == b'\n').unwrap();
    serde_json::from_slice(&content[..end]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_archives_every_line_once() {
    let (kills, seconds) = kills();
    let (mut world, archive) = archiving(&[]).await;
    let tasks = submit_all(&world.api, seconds).await;
    for _ in 0..kills {
        tokio::time::sleep(pause()).await;
        world.server().kill();
        world.server().restart();
    }
    println!("{kills} kills");
    assert_archived(&world, archive.path(), &tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_archive_every_line_once_while_one_of_them_is_killed() {
    let (kills, seconds) = kills();
    let (mut world, archive) = archiving(&[]).await;
    let url = format!("file://{}", archive.path().display());
    let (mut other, _) = world.another(&world.kubeconfig(), &["--archive", &url]);
    let tasks = submit_all(&world.api, seconds).await;
    let mut killed = [0; 2];
    for _ in 0..kills {
        tokio::time::sleep(pause()).await;
        let second = fastrand::usize(..2);
        let server: &mut Server = if second == 0 { world.server() } else { &mut other };
        server.kill();
        server.restart();
        killed[second] += 1;
    }
    println!("{} kills of one server, {} of the other", killed[0], killed[1]);
    assert_archived(&world, archive.path(), &tasks).await;
}
