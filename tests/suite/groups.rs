//! Pipelines, whose tasks run one after the other, and sweeps, whose tasks run side by side.

use std::collections::HashSet;
use std::time::Duration;

use e2e::{Answer, Api, Backend, CommandLine, TaskBuilder, World, eventually, from_environment, small_task};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

const LIMIT: Duration = Duration::from_secs(90);

fn pipeline(name: &str, tasks: &[TaskBuilder]) -> Value {
    json!({"name": name, "execution": "serial", "tasks": tasks})
}

async fn submit(api: &Api, group: &Value) -> (String, Vec<String>) {
    ids(api.post("/groups/submit", group).await)
}

fn ids(answer: Answer) -> (String, Vec<String>) {
    let body = answer.ok();
    let tasks = body["task_ids"].as_array().unwrap().iter();
    let tasks = tasks.map(|id| id.as_str().unwrap().to_owned()).collect();
    (body["group_id"].as_str().unwrap().to_owned(), tasks)
}

async fn group(api: &Api, id: &str) -> Vec<TaskStatus> {
    let body = api.get(&format!("/groups/{id}")).await.ok();
    serde_json::from_value(body["tasks"].clone()).unwrap()
}

/// Waits until all tasks of a group have finished.
async fn finished(api: &Api, id: &str) -> Vec<TaskStatus> {
    eventually(LIMIT, "the group to finish", async || {
        let tasks = group(api, id).await;
        tasks.iter().all(|task| task.status.is_final()).then_some(tasks)
    })
    .await
}

fn outcomes(tasks: &[TaskStatus]) -> Vec<(TaskState, Option<&str>)> {
    tasks.iter().map(|task| (task.status, task.reason.as_deref())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_runs_its_tasks_one_after_the_other() {
    let world = World::new().await;
    let several =
        small_task("echo ${EPOCHREALTIME/./}; sleep 1; echo ${EPOCHREALTIME/./}; echo \"$SKYPILOT_TASK_IDS\"");
    let tasks = [
        several.clone().name("first"),
        several.clone().name("second").nodes(2),
        several.name("third"),
    ];
    let (id, task_ids) = submit(&world.api, &pipeline("steps", &tasks)).await;
    let held = group(&world.api, &id).await;
    assert_eq!(
        held.iter().map(|task| &task.task_id).collect::<Vec<_>>(),
        task_ids.iter().collect::<Vec<_>>()
    );
    assert_eq!(held[2].reason.as_deref(), Some("WaitingForGroup"));
    assert_eq!(held[2].message.as_deref(), Some("waiting for task 2 of 3 of `steps`"));
    let place = held[1].metadata.group.clone().unwrap();
    assert_eq!(
        (place.group_id.as_str(), place.name.as_str(), place.index, place.size),
        (id.as_str(), "steps", 1, 3)
    );
    let done = finished(&world.api, &id).await;
    assert!(done.iter().all(|task| task.status == TaskState::Completed), "{done:?}");
    let mut before = 0;
    for task in &done {
        let log = world.api.log_text(&task.task_id, "").await;
        let words = || log.lines().map(|line| line.rsplit(" | ").next().unwrap());
        let times: Vec<u64> = words().filter_map(|word| word.parse().ok()).collect();
        assert!(times.iter().min().unwrap() > &before, "{log}");
        before = *times.iter().max().unwrap();
        // SkyPilot's IDs of all tasks.
        assert_eq!(
            words().filter(|line| line.starts_with("sky-")).count(),
            3 * task.metadata.num_nodes as usize,
            "{log}"
        );
    }
    let order: Vec<String> = world.api.tasks().await.into_iter().map(|task| task.task_id).collect();
    let order: Vec<&String> = order.iter().filter(|id| task_ids.contains(id)).collect();
    assert_eq!(
        order,
        task_ids.iter().collect::<Vec<_>>(),
        "a list has the order of the group"
    );
    let stranger = world.api.as_user("bob@example.com");
    for (path, answer) in [
        ("status", stranger.get(&format!("/groups/{id}")).await),
        ("stop", stranger.post(&format!("/groups/{id}/stop"), &Value::Null).await),
        (
            "cancel",
            stranger.post(&format!("/groups/{id}/cancel"), &Value::Null).await,
        ),
    ] {
        assert_eq!(answer.status, 404, "{path}");
    }
    let stopped = world.api.post(&format!("/groups/{id}/stop"), &Value::Null).await.ok();
    assert_eq!(stopped["count"], 3);
    assert_eq!(world.api.get(&format!("/groups/{id}")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_cancels_the_tasks_after_it() {
    let world = World::new().await;
    let tasks = [
        small_task("echo one"),
        small_task("exit 3"),
        small_task("echo three").nodes(2),
        small_task("echo four"),
    ];
    let (id, task_ids) = submit(&world.api, &pipeline("steps", &tasks)).await;
    let done = finished(&world.api, &id).await;
    let cancelled = (TaskState::Failed, Some("Cancelled"));
    assert_eq!(
        outcomes(&done),
        [
            (TaskState::Completed, None),
            (TaskState::Failed, Some("Error")),
            cancelled,
            cancelled
        ]
    );
    for task in &task_ids[2..] {
        assert_eq!(world.api.log_text(task, "").await, "", "it never ran");
    }
    assert!(
        done[2].metadata.nodes.iter().all(|node| node.pod_name.is_none()),
        "{done:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_task_holds_its_pipeline_until_it_succeeds() {
    let world = World::new().await;
    // `SKYPILOT_TASK_ID` is the same in all attempts; the host name is not.
    let flaky = small_task("case $HOSTNAME in *attempt-2*) exit 0;; esac; exit 5")
        .recovery(json!({"max_restarts_on_errors": 2}));
    let (id, _) = submit(&world.api, &pipeline("steps", &[flaky, small_task("echo then")])).await;
    let done = finished(&world.api, &id).await;
    assert_eq!(outcomes(&done), [(TaskState::Completed, None); 2], "{done:?}");
    assert_eq!(done[0].metadata.attempts.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_task_ends_its_pipeline() {
    let world = World::new().await;
    let tasks = [
        small_task("echo up; sleep 600"),
        small_task("echo never"),
        small_task("echo never"),
    ];
    let (id, task_ids) = submit(&world.api, &pipeline("steps", &tasks)).await;
    world.api.wait_for_log(&task_ids[0], |log| log.contains("up")).await;
    let _ = world.api.stop(&task_ids[0]).await.ok();
    let left = finished(&world.api, &id).await;
    assert_eq!(outcomes(&left), [(TaskState::Failed, Some("Cancelled")); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_group_starts_nothing_more() {
    let world = World::new().await;
    let task = small_task("trap 'echo saved; exit 0' TERM; echo up; sleep 600 & wait");
    let tasks = vec![task; 6];
    let sweep = json!({"tasks": tasks, "max_parallel": 2});
    let (id, task_ids) = submit(&world.api, &sweep).await;
    for task in &task_ids[..2] {
        world.api.wait_for_log(task, |log| log.contains("up")).await;
    }
    let answer = world.api.post(&format!("/groups/{id}/cancel"), &Value::Null).await.ok();
    assert_eq!(answer["count"], 6);
    let done = finished(&world.api, &id).await;
    assert_eq!(outcomes(&done), [(TaskState::Failed, Some("Cancelled")); 6]);
    for (index, task) in task_ids.iter().enumerate() {
        let expected = if index < 2 { "up\nsaved\n" } else { "" };
        assert_eq!(world.api.log_text(task, "").await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_runs_at_most_as_many_tasks_as_it_may() {
    let world = World::new().await;
    world.api.create_small_volume("seen").await;
    // Each task counts those that run with it, once as many as may have begun. Nothing is
    // removed before it was counted, so the first that counts sees all of them.
    let script = "mkdir -p /seen/now /seen/begun; touch /seen/now/$INDEX; touch /seen/begun/$INDEX; \
                  until [ $(ls /seen/begun | wc -l) -ge 3 ]; do sleep 0.1; done; \
                  ls /seen/now | wc -l; rm /seen/now/$INDEX";
    let task = |index: u32| {
        small_task(script)
            .volume("/seen", "seen")
            .env("INDEX", index.to_string())
    };
    let tasks: Vec<TaskBuilder> = (0..8).map(task).collect();
    let (id, task_ids) = submit(&world.api, &json!({"tasks": tasks, "max_parallel": 3})).await;
    let done = finished(&world.api, &id).await;
    assert_eq!(outcomes(&done), [(TaskState::Completed, None); 8]);
    let mut most = 0;
    for task in &task_ids {
        let log = world.api.log_text(task, "").await;
        most = most.max(log.trim().parse::<u32>().unwrap());
    }
    assert_eq!(most, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_created_if_one_task_is_invalid() {
    let world = World::new().await;
    let before = world.api.task_ids().await.len();
    let missing = small_task("true").volume("/data", "missing");
    let answer = world
        .api
        .post("/groups/submit", &pipeline("steps", &[small_task("true"), missing]))
        .await;
    let (place, _, message) = answer.invalid();
    assert_eq!(
        (place.as_str(), message.contains("not found")),
        ("body.tasks.1.volumes./data", true),
        "{message}"
    );
    let answer = world
        .api
        .post("/groups/submit", &json!({"tasks": [{"run": "true"}, {"num_nodes": 0}]}))
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(world.api.task_ids().await.len(), before);
    let dry_run = world
        .api
        .post(
            "/groups/submit?dry_run=true",
            &pipeline("steps", &[small_task("true").nodes(2), small_task("true")]),
        )
        .await;
    let kinds = |kind: &str| {
        dry_run.body["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|object| object["kind"] == kind)
            .count()
    };
    assert_eq!((kinds("Job"), kinds("ConfigMap"), kinds("Service")), (3, 2, 1));
    assert_eq!(world.api.task_ids().await.len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_submits_with_one_key_create_one_group() {
    let world = World::own(&[]).await;
    let tasks: Vec<TaskBuilder> = (0..5).map(|_| small_task("echo ran; sleep 600")).collect();
    let body = pipeline("steps", &tasks);
    let once = async || {
        let request = world
            .api
            .request(reqwest::Method::POST, "/groups/submit")
            .header("Idempotency-Key", "one")
            .json(&body);
        ids(world.api.send(request).await)
    };
    let all = futures::future::join_all((0..6).map(|_| once())).await;
    let distinct: HashSet<&(String, Vec<String>)> = all.iter().collect();
    assert_eq!(distinct.len(), 1);
    assert_eq!(world.api.task_ids().await, all[0].1);
    assert_eq!(world.cluster.owners().await.len(), 5);
    // The key is taken, for a group and for a task.
    let other = json!({"tasks": [{"run": "other"}]});
    let request = world
        .api
        .request(reqwest::Method::POST, "/groups/submit")
        .header("Idempotency-Key", "one")
        .json(&other);
    assert_eq!(world.api.send(request).await.status, 409);
    assert_eq!(
        world.api.submit_once("one", &small_task("true")).await.unwrap().status,
        409
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_a_server_left_half_done_is_completed_or_removed() {
    let mut world = World::own(&[]).await;
    let tasks: Vec<TaskBuilder> = (0..3).map(|_| small_task("echo ran")).collect();
    let body = json!({"tasks": tasks, "max_parallel": 1});
    let (id, _) = submit(&world.api, &body).await;
    finished(&world.api, &id).await;
    let owners = world.cluster.api::<ConfigMap>();
    let remove = |annotation: &str| {
        Patch::Merge(json!({"metadata": {"annotations": {
            annotation: null, "k8s-cli/submit-deadline": "2020-01-01T00:00:00Z",
        }}}))
    };
    if world.state_dir().is_none() {
        world.server().kill();
    }
    // As a server leaves it that dies right after the commit of the first task.
    let members: Vec<ConfigMap> = world.cluster.owners().await;
    let index = |owner: &ConfigMap| -> u64 {
        let text = &owner.annotations()["k8s-cli/group"];
        serde_json::from_str::<Value>(text).unwrap()["index"].as_u64().unwrap()
    };
    for owner in &members {
        let annotation = match index(owner) {
            0 => "k8s-cli/group-complete",
            _ => "k8s-cli/committed",
        };
        owners
            .patch(&owner.name_any(), &PatchParams::default(), &remove(annotation))
            .await
            .unwrap();
    }
    let (other, api) = world.another(&world.kubeconfig(), &[]);
    eventually(LIMIT, "the group to be complete", async || {
        (group(&api, &id).await.len() == 3).then_some(())
    })
    .await;
    // And right before it.
    for owner in &members {
        owners
            .patch(&owner.name_any(), &PatchParams::default(), &remove("k8s-cli/committed"))
            .await
            .unwrap();
    }
    eventually(LIMIT, "all objects to be removed", async || {
        let jobs = world
            .cluster
            .api::<Job>()
            .list(&kube::api::ListParams::default())
            .await
            .unwrap();
        (world.cluster.owners().await.is_empty() && jobs.items.is_empty()).then_some(())
    })
    .await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_flags_make_groups() {
    let world = World::new().await;
    let cli = CommandLine::of(&world);
    cli.write(
        "steps.yaml",
        "name: nightly\n---\nname: prepare\nrun: echo prepared $WHO\n---\nrun: echo trained $WHO\n",
    );
    let run = cli.run(&["jobs", "submit", "steps.yaml", "--env", "WHO=you"]);
    assert_eq!(run.ok(), "prepare | prepared you\nnightly-2 | trained you\n");
    let status = cli.run(&["jobs", "status", "nightly"]).ok();
    assert!(
        status.contains("2 (2 completed)") && status.contains("one after the other"),
        "{status}"
    );
    assert_eq!(
        cli.run(&["jobs", "logs", "nightly", "--no-follow"]).ok(),
        "prepare | prepared you\nnightly-2 | trained you\n"
    );
    let run = cli.run(&[
        "jobs",
        "submit",
        "--name",
        "lr",
        "--sweep",
        "LR=[0.1,0.01]",
        "--max-parallel",
        "1",
        "--",
        "echo at $LR; [ $LR = 0.1 ]",
    ]);
    assert_eq!(
        (run.code, String::from_utf8_lossy(&run.stdout).as_ref()),
        (100, "lr-0.1 | at 0.1\nlr-0.01 | at 0.01\n"),
        "{}",
        run.stderr
    );
    let id = cli
        .run(&[
            "jobs",
            "submit",
            "-q",
            "--num-jobs",
            "2",
            "--name",
            "copies",
            "--",
            "echo $SKYPILOT_JOB_RANK of $SKYPILOT_NUM_JOBS",
        ])
        .ok();
    cli.run(&["jobs", "wait", "copies", "--for", "completed", "--quiet"])
        .ok();
    assert_eq!(
        cli.run(&["jobs", "logs", id.trim(), "--no-follow"]).ok(),
        "copies-0 | 0 of 2\ncopies-1 | 1 of 2\n"
    );
    cli.write("bad.yaml", "run: echo a\n---\nrun: echo b\nnum_nodse: 2\n");
    let bad = cli.run(&["jobs", "submit", "bad.yaml"]);
    assert_eq!(
        (bad.code, bad.stderr.contains("bad.yaml:4:1")),
        (2, true),
        "{}",
        bad.stderr
    );
    assert_eq!(
        cli.run(&["jobs", "stop", "nightly"])
            .ok()
            .matches("Stopped 2 tasks")
            .count(),
        1
    );
}

/// The server is killed at random moments while a pipeline and a sweep run.
#[tokio::test(flavor = "multi_thread")]
async fn each_task_of_a_group_runs_once_whenever_the_server_is_killed() {
    let kills = from_environment("K8S_CLI_E2E_GROUP_KILLS", 50);
    let mut world = World::own(&[]).await;
    world.api.create_small_volume("marks").await;
    // A task fails if the one before it has not finished.
    let step = |round: usize, index: u32| {
        let before = match index {
            0 => "true".to_owned(),
            _ => format!("[ -e /marks/{round}-{} ]", index - 1),
        };
        let script = format!("echo ran; {before} && sleep 0.3 && touch /marks/{round}-{index}");
        small_task(script).volume("/marks", "marks")
    };
    let points: Vec<TaskBuilder> = (0..20).map(|_| small_task("echo ran; sleep 0.2")).collect();
    let sweep = json!({"name": "points", "tasks": points, "max_parallel": 4});
    let done = std::sync::atomic::AtomicBool::new(false);
    let api = world.api.clone();
    let submitting = async {
        let mut rounds = Vec::new();
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let steps: Vec<TaskBuilder> = (0..5).map(|index| step(rounds.len(), index)).collect();
            for (kind, body) in [&pipeline("steps", &steps), &sweep].into_iter().enumerate() {
                let key = format!("{kind}-{}", rounds.len());
                let submitted = eventually(LIMIT, "a submit to be acknowledged", async || {
                    let request = api
                        .request(reqwest::Method::POST, "/groups/submit")
                        .header("Idempotency-Key", &key)
                        .json(body);
                    let answer = api.try_send(request).await?;
                    (answer.status == 200).then(|| ids(answer))
                })
                .await;
                rounds.push((kind, submitted));
            }
            for (_, (id, _)) in rounds.iter().rev().take(2) {
                eventually(LIMIT, "the group to finish", async || {
                    let answer = api
                        .try_send(api.request(reqwest::Method::GET, &format!("/groups/{id}")))
                        .await?;
                    let tasks: Vec<TaskStatus> = serde_json::from_value(answer.body["tasks"].clone()).ok()?;
                    tasks.iter().all(|task| task.status.is_final()).then_some(())
                })
                .await;
            }
        }
        rounds
    };
    let killing = async {
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..900))).await;
            world.server().kill();
            world.server().restart();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (rounds, ()) = tokio::join!(submitting, killing);
    println!("{kills} kills, {} groups", rounds.len());
    for (kind, (id, task_ids)) in &rounds {
        let tasks = finished(&world.api, id).await;
        assert_eq!(tasks.len(), [5, 20][*kind]);
        assert!(
            tasks.iter().all(|task| task.status == TaskState::Completed),
            "{tasks:?}"
        );
        for task in task_ids {
            assert_eq!(world.api.log_text(task, "").await, "ran\n");
        }
    }
    let expected: usize = rounds.iter().map(|(kind, _)| [5, 20][*kind]).sum();
    let listed = world.api.tasks().await;
    assert_eq!(
        listed.iter().filter(|task| task.metadata.group.is_some()).count(),
        expected
    );
    assert!(Backend::chosen() == Backend::Cluster || !rounds.is_empty());
}
