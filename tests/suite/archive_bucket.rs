//! An archive in a bucket of a real S3-compatible server: nothing is lost, and no task notices, while it is away.

use std::time::{Duration, Instant};

use e2e::{Api, Bucket, Link, Setting, World, eventually, from_environment, small_task};
use futures::future::join_all;
use task::TaskState;
use task::record::{EndKind, HistoryPage};

use crate::archive::{archived_text, record};

/// Number of tasks that write at the same time.
const WRITERS: usize = 8;

/// Lines per second of all writers but the first, which writes frames of 1 MiB.
const QUIET: usize = 50;
const LOUD: usize = 4000;

/// How long writers go on after the bucket is back, so that the archive catches up while they write.
const AFTERWARDS: usize = 15;

/// How long a request may take while the bucket is away. The machine of the tests is busy, too.
const PROMPT: Duration = Duration::from_secs(2);

/// The same for a stop of a task that nothing is archived of: after a second, the server knows that the bucket is away, and
/// then waits for at most another one until the log is read.
const STOP: Duration = Duration::from_secs(3);

/// How long a task of one line may take from its submit to its end.
const TASK_LIMIT: Duration = Duration::from_secs(20);

/// The pause between two short tasks, so that they leave the machine to the writers.
const PACE: Duration = Duration::from_millis(250);

/// Longer than the longest pause of the archive between two tries.
const CATCH_UP: Duration = Duration::from_secs(90);

/// The script of a writer, which says when it receives SIGTERM.
fn script(seconds: usize, lines_per_second: usize) -> String {
    format!(
        "trap 'echo ends; exit 0' TERM; n=0; for ((second = 0; second < {seconds}; second++)); do \
         for ((i = 0; i < {lines_per_second}; i++)); do echo \"line $((n++))\"; done; sleep 1 & wait; done"
    )
}

fn assert_lines(log: &str, count: usize) {
    let mut lines = log.lines();
    for number in 0..count {
        assert_eq!(lines.next(), Some(format!("line {number}").as_str()));
    }
    assert_eq!(lines.next(), None);
}

/// The slowest response of each kind, and the tasks that ran.
#[derive(Default)]
struct Prompt {
    submit: Duration,
    status: Duration,
    list: Duration,
    log: Duration,
    task: Duration,
    ids: Vec<String>,
}

async fn timed<T>(slowest: &mut Duration, call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let value = call.await;
    *slowest = (*slowest).max(start.elapsed());
    value
}

/// Runs tasks of one line for a while, one after the other.
async fn run_short_tasks(api: &Api, limit: Duration) -> Prompt {
    let mut prompt = Prompt::default();
    let start = Instant::now();
    while start.elapsed() < limit {
        let began = Instant::now();
        let task = small_task("echo short");
        let id = timed(&mut prompt.submit, api.submit(&task)).await;
        eventually(TASK_LIMIT, "a short task to end", async || {
            let status = timed(&mut prompt.status, api.status(&id)).await;
            (status.status == TaskState::Completed).then_some(())
        })
        .await;
        prompt.task = prompt.task.max(began.elapsed());
        let log = timed(&mut prompt.log, api.log_text(&id, "?follow=false")).await;
        assert_eq!(log, "short\n");
        let page = timed(&mut prompt.list, api.get("/history")).await;
        let page: HistoryPage = page.parsed();
        assert!(page.tasks.iter().any(|task| task.task_id == id));
        prompt.ids.push(id);
        tokio::time::sleep(PACE).await;
    }
    prompt
}

/// Stops a task that was submitted while the bucket was away. Returns its ID.
async fn stop_new_writer(api: &Api) -> String {
    let id = api.submit(&small_task(script(600, QUIET))).await;
    api.wait_for_log(&id, |log| log.contains("line 0\n")).await;
    stop_new(api, &id).await;
    id
}

async fn stop_new(api: &Api, id: &str) {
    let mut time = Duration::ZERO;
    let _ = timed(&mut time, api.stop(id)).await.ok();
    assert!(time < STOP, "{time:?}");
}

/// Checks that the log of a writer that was stopped is complete.
async fn assert_stopped(api: &Api, id: &str) {
    eventually(CATCH_UP, "the record of the stopped task", async || {
        let record = api.get(&format!("/history/{id}")).await;
        (record.status == 200 && record.body["end"].is_object()).then_some(())
    })
    .await;
    let end = record(api, id).await;
    assert_eq!((end.end.unwrap().how, &end.logs[0].lost), (EndKind::Stopped, &None));
    let log = archived_text(api, id, "").await;
    assert_lines(log.strip_suffix("ends\n").unwrap(), log.lines().count() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_no_task_waits_while_the_bucket_is_away() {
    let Some(bucket) = Bucket::start().await else { return };
    let seconds = from_environment("K8S_CLI_E2E_CUT_SECONDS", 10);
    let link = Link::to(bucket.address()).await;
    let setting = Setting {
        environment: bucket.environment(link.address()),
        ..Setting::default()
    };
    let world = World::with_setting(setting, &["--archive", &bucket.url("of/tests")]).await;
    let api = &world.api;
    let total = seconds + AFTERWARDS;
    let rate = |index: usize| if index == 0 { LOUD } else { QUIET };
    let submits = (0..WRITERS).map(async |index| api.submit(&small_task(script(total, rate(index)))).await);
    let writers = join_all(submits).await;
    let stopped = api.submit(&small_task(script(600, QUIET))).await;
    let is_frame = |key: &&String| key.ends_with("/00000000") && key.starts_with("of/tests/logs/");
    eventually(Duration::from_secs(60), "a frame of each writer", async || {
        let frames = bucket.keys().await.iter().filter(is_frame).count();
        (frames > WRITERS).then_some(())
    })
    .await;
    link.cut();
    let before = bucket.keys().await;
    let stop = async {
        let mut time = Duration::ZERO;
        let _ = timed(&mut time, api.stop(&stopped)).await.ok();
        time
    };
    let (prompt, stop, new) = tokio::join!(
        run_short_tasks(api, Duration::from_secs(seconds as u64)),
        stop,
        stop_new_writer(api),
    );
    // Its log would be gone if it were read only once the bucket is back.
    stop_new(api, &prompt.ids[0]).await;
    assert_eq!(bucket.keys().await, before, "the bucket was not away");
    link.restore();
    let Prompt {
        submit,
        status,
        list,
        log,
        task,
        ..
    } = &prompt;
    println!(
        "{seconds} s without the bucket, {} short tasks; slowest submit {submit:?}, status {status:?}, list {list:?}, \
         log {log:?}, stop {stop:?}, short task {task:?}",
        prompt.ids.len()
    );
    for time in [prompt.submit, prompt.status, prompt.list, prompt.log, stop] {
        assert!(time < PROMPT, "{time:?}");
    }
    assert_stopped(api, &stopped).await;
    assert_stopped(api, &new).await;
    for (index, id) in writers.iter().enumerate() {
        api.wait_for(id, TaskState::Completed).await;
        let _ = api.stop(id).await.ok();
        let record = record(api, id).await;
        assert_eq!(record.logs[0].lost, None);
        assert_lines(&archived_text(api, id, "").await, total * rate(index));
    }
    for id in &prompt.ids {
        // The first one is stopped already.
        let _ = api.stop(id).await;
        assert_eq!(record(api, id).await.logs[0].lost, None);
        assert_eq!(archived_text(api, id, "").await, "short\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ended_before_a_restart_is_archived_although_it_is_stopped_while_the_bucket_is_away() {
    let Some(bucket) = Bucket::start().await else { return };
    let link = Link::to(bucket.address()).await;
    let setting = Setting {
        environment: bucket.environment(link.address()),
        ..Setting::default()
    };
    let mut world = World::with_setting(setting, &["--archive", &bucket.url("of/tests")]).await;
    link.cut();
    let id = world.api.run("echo short").await;
    world.api.wait_for(&id, TaskState::Completed).await;
    world.server().kill();
    world.server().restart();
    stop_new(&world.api, &id).await;
    link.restore();
    assert_eq!(record(&world.api, &id).await.logs[0].lost, None);
    assert_eq!(archived_text(&world.api, &id, "").await, "short\n");
}
