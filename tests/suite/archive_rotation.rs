//! A log that is written as fast as possible is complete in the archive, or its gaps are marked.

use std::time::{Duration, Instant};

use e2e::{Backend, TaskBuilder, eventually, from_environment};
use task::TaskState;
use task::record::TaskRecord;

use crate::archive::{archived_text, archiving, record};

/// How long the writer, and the archive after it, may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Bytes of a line, with its newline.
const LINE: usize = 1024;

/// Digits of the number at the start of a line.
const DIGITS: usize = 8;

/// How a notice of the archive begins.
const NOTICE: &str = "[k8s-cli: a part of the log is missing here: ";

/// What is missing of a log of numbered lines.
#[derive(Debug, Default)]
struct Missing {
    notices: usize,
    lines: usize,
}

/// How many bytes a notice says are missing, if it says so.
fn noticed_bytes(notice: &str) -> Option<usize> {
    notice.strip_prefix(NOTICE)?.split_once(" bytes; ")?.0.parse().ok()
}

/// Checks that lines are only missing where a notice says so, as many as it says, and that nothing is there twice.
fn missing(log: &str, count: usize) -> Missing {
    let filler = "x".repeat(LINE - DIGITS - 2);
    let mut missing = Missing::default();
    let mut next = 0;
    let mut notice = None;
    for line in log.lines() {
        if line.starts_with(NOTICE) {
            missing.notices += 1;
            notice = Some(line);
            continue;
        }
        let (number, rest) = line.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        assert!(rest == filler, "line {number} is damaged");
        assert!(
            number == next || (number > next && notice.is_some()),
            "line {number} instead of {next}"
        );
        if let Some(bytes) = notice.take().and_then(noticed_bytes) {
            assert_eq!(bytes, (number - next) * LINE, "the notice before line {number}");
        }
        missing.lines += number - next;
        next = number + 1;
    }
    assert!(next == count || notice.is_some(), "the last line is {next} of {count}");
    missing.lines += count - next;
    missing
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_at_full_speed_is_complete_or_its_gaps_are_marked() {
    let mebibytes = from_environment("K8S_CLI_E2E_ARCHIVE_LOG_MIB", 25);
    let count = mebibytes * (1 << 20) / LINE;
    let (world, _archive) = archiving(&[]).await;
    let script = format!(
        "printf -v line '%{}s'; line=${{line// /x}}; \
         for ((n = 0; n < {count}; n++)); do printf '%0{DIGITS}d %s\\n' $n $line; done",
        LINE - DIGITS - 2
    );
    // With a CPU of its own: a smaller one is also a limit.
    let id = world.api.submit(&TaskBuilder::new(script).cpus(1)).await;
    world.api.wait_for(&id, TaskState::Running).await;
    let start = Instant::now();
    world
        .api
        .wait_for_status(&id, LIMIT, "the writer to end", |status| {
            status.status == TaskState::Completed
        })
        .await;
    let written = start.elapsed();
    let seen: TaskRecord = eventually(LIMIT, "the record", async || {
        let record: TaskRecord = world.api.get(&format!("/history/{id}")).await.parsed();
        record.end.is_some().then_some(record)
    })
    .await;
    let archived = start.elapsed();
    let _ = world.api.stop(&id).await.ok();
    assert_eq!(record(&world.api, &id).await.logs, seen.logs);
    let log = archived_text(&world.api, &id, "").await;
    let missing = missing(&log, count);
    println!(
        "{} bytes written in {written:?}, {} archived after {archived:?}, {} gaps of {} bytes",
        count * LINE,
        (count - missing.lines) * LINE,
        missing.notices,
        missing.lines * LINE,
    );
    // The engine keeps 1 GiB of each log, so nothing is out of reach.
    assert!(
        Backend::chosen() == Backend::Cluster || missing.lines == 0,
        "{missing:?}"
    );
}
