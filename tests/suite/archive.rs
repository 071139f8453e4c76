//! Records and logs stay when their tasks are gone.

use std::time::Duration;

use e2e::{Api, CommandLine, TaskBuilder, World, eventually, small_task};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use task::TaskState;
use task::record::{EndKind, HistoryPage, TaskRecord};

const LIMIT: Duration = Duration::from_secs(90);

/// A server with an archive of its own. The directory goes with the test.
pub(crate) async fn archiving(arguments: &[&str]) -> (World, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().display());
    let mut all = vec!["--archive", url.as_str()];
    all.extend_from_slice(arguments);
    (World::own(&all).await, directory)
}

/// The record of a task that has ended, once it is written.
pub(crate) async fn record(api: &Api, id: &str) -> TaskRecord {
    eventually(LIMIT, "the record of the task", async || {
        let answer = api.get(&format!("/history/{id}")).await;
        let record: TaskRecord = (answer.status == 200).then(|| answer.parsed())?;
        let is_gone = api.try_status(id).await.status == 404;
        (record.end.is_some() && is_gone).then_some(record)
    })
    .await
}

pub(crate) async fn archived_log(api: &Api, id: &str, query: &str) -> Vec<u8> {
    let path = format!("/history/{id}/logs{query}");
    let response = api.request(reqwest::Method::GET, &path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap().to_vec()
}

pub(crate) async fn archived_text(api: &Api, id: &str, query: &str) -> String {
    String::from_utf8(archived_log(api, id, query).await).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Deletes the only Job of a task, as `kubectl delete job` does.
async fn delete_job(world: &World, id: &str) {
    let job = world.cluster.jobs(id).await.remove(0);
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let name = job.metadata.name.unwrap();
    world.cluster.api::<Job>().delete(&name, &params).await.unwrap();
}

async fn history(api: &Api, query: &str) -> HistoryPage {
    api.get(&format!("/history{query}")).await.parsed()
}

async fn names(api: &Api, query: &str) -> Vec<String> {
    let page = history(api, query).await;
    page.tasks.into_iter().map(|task| task.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_and_the_record_of_a_stopped_task_stay() {
    let (world, _archive) = archiving(&[]).await;
    // 10 MiB of every kind of byte but the newline; lines as long as the kubelet leaves whole.
    let bytes: Vec<u8> = (0..1023_u32)
        .map(|i| (i % 255) as u8)
        .map(|byte| if byte == b'\n' { b'x' } else { byte })
        .collect();
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = format!(
        "trap 'echo ends; exit 0' TERM\n\
         line='{escaped}\\n'\n\
         for ((i = 0; i < 10240; i++)); do printf \"$line\"; done\n\
         echo written; sleep 600 & wait"
    );
    let mut expected = Vec::new();
    for _ in 0..10_240 {
        expected.extend_from_slice(&bytes);
        expected.push(b'\n');
    }
    expected.extend_from_slice(b"written\nends\n");
    let task = small_task(script).name("loud").env("COLOR", "blue");
    let id = world.api.submit(&task).await;
    eventually(LIMIT, "the log to be written", async || {
        let tail = world.api.logs(&id, "?follow=false&tail=1").await;
        (tail == b"written\n").then_some(())
    })
    .await;
    let _ = world.api.stop(&id).await.ok();
    let record = record(&world.api, &id).await;
    let log = archived_log(&world.api, &id, "").await;
    assert_eq!((log.len(), hash(&log)), (expected.len(), hash(&expected)));
    let end = record.end.unwrap();
    assert_eq!(
        (end.how, end.by.as_deref()),
        (EndKind::Stopped, Some("alice@example.com"))
    );
    assert_eq!(
        (record.task.status, record.task.reason.as_deref()),
        (TaskState::Failed, Some("Stopped"))
    );
    assert_eq!(record.task.name, "loud");
    let definition = record.definition.unwrap();
    assert_eq!(
        (&definition["envs"], &definition["num_nodes"]),
        (&json!([["COLOR", "blue"]]), &json!(1))
    );
    assert!(record.task.metadata.nodes[0].node_name.is_some());
    assert!(record.usage.node_hours > 0.0);
    assert_eq!(
        (record.logs.len(), record.logs[0].lines, &record.logs[0].lost),
        (1, 10_242, &None)
    );
    assert_eq!(archived_text(&world.api, &id, "?tail=2").await, "written\nends\n");
    assert_eq!(
        world
            .api
            .as_user("bob@example.com")
            .get(&format!("/history/{id}"))
            .await
            .status,
        404
    );
    assert_eq!(
        world
            .api
            .as_user("bob@example.com")
            .get(&format!("/history/{id}/logs"))
            .await
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_job_was_deleted_after_its_end_stays_readable() {
    let (world, _archive) = archiving(&[]).await;
    let id = world.api.run("echo one; echo two; exit 3").await;
    world.api.wait_for(&id, TaskState::Failed).await;
    delete_job(&world, &id).await;
    let record = record(&world.api, &id).await;
    assert_eq!(record.end.unwrap().how, EndKind::Finished);
    assert_eq!(record.task.metadata.nodes[0].exit_code, Some(3));
    assert_eq!(archived_text(&world.api, &id, "").await, "one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_deleted_while_it_ran_has_a_record() {
    let (world, _archive) = archiving(&[]).await;
    let id = world.api.run("echo begun; sleep 600").await;
    world.api.wait_for_log(&id, |log| log == "begun\n").await;
    delete_job(&world, &id).await;
    let record = record(&world.api, &id).await;
    let end = record.end.unwrap();
    assert_eq!((end.how, end.by), (EndKind::Deleted, None));
    assert_eq!(archived_text(&world.api, &id, "").await, "begun\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_canceled_task_says_who_canceled_it() {
    let (world, _archive) = archiving(&[]).await;
    let script = "trap 'echo ends; exit 1' TERM; echo begun; sleep 600 & wait";
    let ids = [
        world.api.run(script).await,
        world.api.submit(&small_task(script).nodes(2)).await,
    ];
    for (id, nodes) in ids.iter().zip([1, 2]) {
        world
            .api
            .wait_for_log(id, |log| log.matches("begun").count() == nodes)
            .await;
    }
    // Another user may cancel the tasks of all, and is not the last one to try.
    let bob = world.api.as_user("bob@example.com");
    let _ = bob.post("/tasks/cancel?all_users=true", &Value::Null).await.ok();
    for id in &ids {
        let _ = world.api.post(&format!("/tasks/{id}/cancel"), &Value::Null).await.ok();
        world.api.wait_for(id, TaskState::Failed).await;
        let _ = world.api.stop(id).await.ok();
        let end = record(&world.api, id).await.end.unwrap();
        assert_eq!(
            (end.how, end.by.as_deref()),
            (EndKind::Cancelled, Some("bob@example.com"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_task_stays_readable() {
    let (world, _archive) = archiving(&["--ttl-after-finished", "1s"]).await;
    let alone = world.api.run("echo alone").await;
    let gang = world.api.submit(&small_task("echo gang").nodes(2)).await;
    for (id, log) in [(&alone, "alone\n"), (&gang, "node-0 | gang\nnode-1 | gang\n")] {
        let record = record(&world.api, id).await;
        assert_eq!(
            (record.end.unwrap().how, record.task.status),
            (EndKind::Finished, TaskState::Completed)
        );
        let text = archived_text(&world.api, id, "").await;
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.sort_unstable();
        assert_eq!(lines.concat(), log);
    }
    assert!(world.api.task_ids().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_task_stays_readable() {
    let (world, _archive) = archiving(&[]).await;
    let id = world
        .api
        .run("trap 'echo leaving; exit 1' TERM; echo begun; sleep 600 & wait")
        .await;
    world.api.wait_for_log(&id, |log| log == "begun\n").await;
    let pod = world.api.status(&id).await.metadata.nodes[0].pod_name.clone().unwrap();
    world.cluster.evict(&pod).await;
    let failed = world.api.wait_for(&id, TaskState::Failed).await;
    // Its Job is there, its pod is not.
    eventually(LIMIT, "the pod to go", async || {
        world
            .cluster
            .api::<Pod>()
            .get_opt(&pod)
            .await
            .unwrap()
            .is_none()
            .then_some(())
    })
    .await;
    for query in ["", "?follow=false", "?tail=2"] {
        assert_eq!(world.api.log_text(&id, query).await, "begun\nleaving\n", "{query}");
    }
    let _ = world.api.stop(&id).await.ok();
    let record = record(&world.api, &id).await;
    assert_eq!(
        (record.task.status, record.end.unwrap().how),
        (failed.status, EndKind::Finished)
    );
    assert_eq!(archived_text(&world.api, &id, "").await, "begun\nleaving\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_three_attempts_of_a_gang_stay_readable() {
    let (world, _archive) = archiving(&[]).await;
    let script = "echo \"$SKYPILOT_NODE_RANK in $HOSTNAME\"; [ $SKYPILOT_NODE_RANK = 0 ] || sleep 600; exit 7";
    let task = small_task(script)
        .nodes(2)
        .recovery(json!({"max_restarts_on_errors": 2}));
    let id = world.api.submit(&task).await;
    let before = {
        world.api.wait_for(&id, TaskState::Failed).await;
        world.api.log_text(&id, "").await
    };
    let _ = world.api.stop(&id).await.ok();
    let record = record(&world.api, &id).await;
    assert_eq!((record.task.metadata.attempts.len(), record.logs.len()), (2, 6));
    let attempts: Vec<(u32, u32)> = record.logs.iter().map(|log| (log.rank, log.attempt)).collect();
    assert_eq!(attempts, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]);
    let mut logs = [before, archived_text(&world.api, &id, "").await];
    assert_eq!(logs[0].lines().count(), 6, "{}", logs[0]);
    for log in &mut logs {
        let mut lines: Vec<&str> = log.lines().collect();
        lines.sort_unstable();
        *log = lines.join("\n");
    }
    assert_eq!(logs[0], logs[1]);
    for attempt in ["node-1 attempt-2 | 1 in ", "node-0 attempt-3 | 0 in "] {
        assert!(logs[1].contains(attempt), "{}", logs[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_line_of_a_stopped_gang_needs_no_end() {
    let (world, _archive) = archiving(&[]).await;
    let script = "trap 'printf leaving; exit 1' TERM; echo begun; sleep 600 & wait";
    let id = world.api.submit(&small_task(script).nodes(2)).await;
    world.api.wait_for_log(&id, |log| log.lines().count() == 2).await;
    let _ = world.api.stop(&id).await.ok();
    let record = record(&world.api, &id).await;
    assert!(record.logs.iter().all(|log| log.lost.is_none()), "{:?}", record.logs);
    for node in 0..2 {
        let log = archived_text(&world.api, &id, &format!("?node={node}")).await;
        assert_eq!(log, format!("node-{node} | begun\nnode-{node} | leaving"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_and_present_tasks_are_one_list() {
    let (world, _archive) = archiving(&[]).await;
    let submit = async |name: &str, script: &str| world.api.submit(&small_task(script).name(name)).await;
    let stopped = submit("train-1", "exit 1").await;
    world.api.wait_for(&stopped, TaskState::Failed).await;
    let _ = world.api.stop(&stopped).await.ok();
    let done = submit("train-2", "true").await;
    world.api.wait_for(&done, TaskState::Completed).await;
    let running = submit("eval-1", "echo begun; sleep 600").await;
    world.api.wait_for_log(&running, |log| log == "begun\n").await;
    record(&world.api, &stopped).await;
    let api = &world.api;
    assert_eq!(names(api, "").await, ["eval-1", "train-2", "train-1"]);
    assert_eq!(names(api, "?name=train*").await, ["train-2", "train-1"]);
    assert_eq!(names(api, "?status=running,failed").await, ["eval-1", "train-1"]);
    assert_eq!(names(api, "?q=TRAIN-1").await, ["train-1"]);
    assert_eq!(names(api, "?since=1h&until=0s").await.len(), 3);
    assert_eq!(names(api, "?until=1h").await.len(), 0);
    let exist: Vec<bool> = history(api, "").await.tasks.iter().map(|task| task.exists).collect();
    assert_eq!(exist, [true, true, false]);
    let mut pages = Vec::new();
    let mut query = "?limit=1".to_owned();
    loop {
        let page = history(api, &query).await;
        pages.extend(page.tasks.into_iter().map(|task| task.name));
        let Some(cursor) = page.next_cursor else { break };
        query = format!("?limit=1&cursor={cursor}");
    }
    assert_eq!(pages, ["eval-1", "train-2", "train-1"]);
    let bob = world.api.as_user("bob@example.com");
    assert_eq!(names(&bob, "").await.len(), 0);
    assert_eq!(names(&bob, "?all_users=true").await.len(), 3);
    assert_eq!(names(&bob, "?user=alice@example.com&name=eval*").await, ["eval-1"]);
    let (place, _, _) = api.get("/history?cursor=x").await.invalid();
    assert_eq!(place, "query.cursor");
    for path in [
        "/history?status=over",
        "/history?limit=0",
        "/history?limit=1001",
        "/tasks?limit=0",
    ] {
        assert_eq!(api.get(path).await.status, 422, "{path}");
    }
    let live: TaskRecord = api.get(&format!("/history/{running}")).await.parsed();
    assert_eq!((live.task.status, live.end), (TaskState::Running, None));
    assert_eq!(archived_text(api, &running, "?follow=false").await, "begun\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_finds_a_task_wherever_it_is() {
    let (world, _archive) = archiving(&[]).await;
    let line = CommandLine::of(&world);
    let id = world
        .api
        .submit(&TaskBuilder::new("echo one; echo two; exit 3").name("past"))
        .await;
    world.api.wait_for(&id, TaskState::Failed).await;
    let _ = world.api.stop(&id).await.ok();
    record(&world.api, &id).await;
    for reference in [&id, "past"] {
        let logs = line.run(&["jobs", "logs", reference]);
        assert!(logs.stderr.contains("failed"), "{}", logs.stderr);
        assert_eq!(logs.ok(), "one\ntwo\n");
        let status: Value = line.run(&["jobs", "status", reference, "-o", "json"]).parsed();
        assert_eq!((&status["task_id"], &status["status"]), (&json!(id), &json!("failed")));
        let text = line.run(&["jobs", "status", reference]).ok();
        assert!(text.starts_with("Ended:     finished at "), "{text}");
    }
    assert_eq!(
        line.run(&["jobs", "logs", &id, "--tail", "1", "--no-follow"]).ok(),
        "two\n"
    );
    line.run(&["jobs", "logs", &id, "--exit-code"]).failed(3);
    assert_eq!(line.run(&["jobs", "list", "-o", "name"]).ok(), "");
    for arguments in [
        &["--all"][..],
        &["--since", "1h"],
        &["--search", "PAS"],
        &["-a", "--name", "p*", "--status", "failed"],
    ] {
        let mut all = vec!["jobs", "list", "-o", "name"];
        all.extend_from_slice(arguments);
        assert_eq!(line.run(&all).ok(), format!("{id}\n"), "{arguments:?}");
    }
    assert_eq!(line.run(&["jobs", "list", "--until", "1h", "-o", "name"]).ok(), "");
    let table = line.run(&["jobs", "list", "--all"]).ok();
    assert!(table.contains("DELETED") && table.contains("yes"), "{table}");
    line.run(&["jobs", "stop", &id]).failed(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_logs_make_room_for_new_ones() {
    let (world, _archive) = archiving(&["--archive-max-size", "1"]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = world.api.run("head -c 600000 /dev/urandom | base64 -w 0").await;
        world.api.wait_for(&id, TaskState::Completed).await;
        let _ = world.api.stop(&id).await.ok();
        record(&world.api, &id).await;
        ids.push(id);
    }
    assert_eq!(archived_log(&world.api, &ids[2], "").await.len(), 800_000);
    let deleted = world.api.get(&format!("/history/{}/logs", ids[0])).await.error(404);
    assert_eq!(
        deleted,
        format!("the log of task {} is no longer in the archive", ids[0])
    );
    assert_eq!(history(&world.api, "").await.tasks.len(), 3, "records stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_logs_of_a_user_at_the_limit_make_room_and_those_of_others_stay() {
    let (world, _archive) = archiving(&["--archive-max-size-per-user", "1"]).await;
    let bob = world.api.as_user("bob@example.com");
    let mut ids = Vec::new();
    for api in [&bob, &world.api, &world.api, &world.api] {
        let id = api.run("head -c 600000 /dev/urandom | base64 -w 0").await;
        api.wait_for(&id, TaskState::Completed).await;
        let _ = api.stop(&id).await.ok();
        record(api, &id).await;
        ids.push(id);
    }
    assert_eq!(archived_log(&bob, &ids[0], "").await.len(), 800_000);
    assert_eq!(archived_log(&world.api, &ids[3], "").await.len(), 800_000);
    let _ = world.api.get(&format!("/history/{}/logs", ids[1])).await.error(404);
    assert_eq!(history(&world.api, "").await.tasks.len(), 3, "records stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_archives_what_it_has_read() {
    let (mut world, archive) = archiving(&[]).await;
    let id = world.api.run("echo begun; sleep 600").await;
    world.api.wait_for_log(&id, |log| log == "begun\n").await;
    // Frames are written when they are some seconds old.
    assert!(world.server().terminate());
    // DAY/TASK/RANK/POD/FRAME
    let mut files = vec![archive.path().join("logs")];
    for _ in 0..5 {
        let entries = files.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
        files = entries.map(|entry| entry.unwrap().path()).collect();
    }
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].ends_with("00000000"), "{files:?}");
    world.server().restart();
    let _ = world.api.stop(&id).await.ok();
    assert_eq!(record(&world.api, &id).await.logs[0].lost, None);
    assert_eq!(archived_text(&world.api, &id, "").await, "begun\n");
}
