//! Clients are told of each change of a task, and need not poll.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use e2e::{Api, CommandLine, World, eventually, small_task};
use futures::{Stream, StreamExt};
use reqwest::Method;
use serde_json::Value;
use sse_stream::{Sse, SseByteStream};
use task::TaskState;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

type Events = std::pin::Pin<Box<dyn Stream<Item = Sse> + Send>>;

async fn open(api: &Api, query: &str, last_id: Option<&str>) -> Events {
    let mut request = api.request(Method::GET, &format!("/tasks/events{query}"));
    if let Some(id) = last_id {
        request = request.header("Last-Event-ID", id);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let bytes = response.bytes_stream();
    // An interrupted stream is one that has ended.
    SseByteStream::new(bytes)
        .take_while(|event| std::future::ready(event.is_ok()))
        .map(Result::unwrap)
        .boxed()
}

async fn next(events: &mut Events) -> Sse {
    timeout(LIMIT, events.next())
        .await
        .expect("no event")
        .expect("the stream has ended")
}

/// The events up to the next `synced`, as `name` and what it is about, and the ID of the last one.
async fn batch(events: &mut Events) -> (Vec<(String, Value)>, String) {
    let mut all = Vec::new();
    loop {
        let event = next(events).await;
        let name = event.event.unwrap();
        if name == "synced" {
            return (all, event.id.unwrap());
        }
        all.push((name, serde_json::from_str(&event.data.unwrap()).unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_each_state_of_a_task_and_its_removal() {
    let world = World::own(&[]).await;
    let mut events = open(&world.api, "", None).await;
    let (first, _) = batch(&mut events).await;
    assert_eq!(first, [("reset".to_owned(), serde_json::json!({}))]);
    let id = world.api.submit(&small_task("sleep 600").name("watched")).await;
    // Somebody else's task is nobody else's business.
    let other = world.api.as_user("bob@example.com").submit(&small_task("true")).await;
    let mut states = Vec::new();
    while states.last() != Some(&"running".to_owned()) {
        for (name, task) in batch(&mut events).await.0 {
            assert_eq!((name.as_str(), &task["task_id"]), ("task", &Value::from(id.as_str())));
            states.push(task["status"].as_str().unwrap().to_owned());
        }
    }
    // Several changes within a moment are told as one.
    assert!(states.is_sorted(), "{states:?}");
    // The event has the same as the status.
    let mut all = open(&world.api, "?all_users=true", None).await;
    let (listed, _) = batch(&mut all).await;
    let ids: Vec<&Value> = listed[1..].iter().map(|(_, task)| &task["task_id"]).collect();
    assert!(ids.contains(&&Value::from(other.as_str())), "{ids:?}");
    let told = listed.iter().find(|(_, task)| task["task_id"] == id.as_str()).unwrap();
    assert_eq!(told.1, world.api.try_status(&id).await.ok());
    let _ = world.api.stop(&id).await.ok();
    let removed = eventually(LIMIT, "the removal", async || {
        let (batch, _) = batch(&mut events).await;
        batch.into_iter().find(|(name, _)| name == "removed")
    });
    assert_eq!(
        removed.await.1,
        serde_json::json!({"task_id": id, "username": "alice@example.com"})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_is_told_only_what_it_has_missed() {
    let world = World::own(&[]).await;
    let gone = world.api.submit(&small_task("sleep 600").name("gone")).await;
    let same = world.api.submit(&small_task("true").name("same")).await;
    let _ = world.api.wait_for(&same, TaskState::Completed).await;
    let _ = world.api.wait_for(&gone, TaskState::Running).await;
    let (listed, last_id) = batch(&mut open(&world.api, "", None).await).await;
    assert_eq!(listed.len(), 3, "{listed:?}");
    let _ = world.api.stop(&gone).await.ok();
    let new = world.api.submit(&small_task("true").name("new")).await;
    let _ = world.api.wait_for(&new, TaskState::Completed).await;
    let (missed, _) = batch(&mut open(&world.api, "", Some(&last_id)).await).await;
    let missed: BTreeMap<&str, &str> = missed
        .iter()
        .map(|(name, task)| (task["task_id"].as_str().unwrap(), name.as_str()))
        .collect();
    assert_eq!(missed, [(gone.as_str(), "removed"), (new.as_str(), "task")].into());
    // What is not known means everything.
    let (listed, _) = batch(&mut open(&world.api, "", Some("0-17")).await).await;
    assert_eq!((listed[0].0.as_str(), listed.len()), ("reset", 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_watch_go_on_after_a_restart_of_the_server() {
    let mut world = World::own(&[]).await;
    let cli = CommandLine::of(&world);
    let id = world.api.submit(&small_task("sleep 600").name("kept")).await;
    let _ = world.api.wait_for(&id, TaskState::Running).await;
    let mut command = cli.command(&["jobs", "wait", &id]);
    let waiting = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually(LIMIT, "the command to wait", async || {
        let metrics = world.api.request(Method::GET, "/metrics").send().await.ok()?;
        let metrics = metrics.text().await.ok()?;
        metrics.contains("k8s_cli_log_followers 1\n").then_some(())
    })
    .await;
    world.server().kill();
    world.server().restart();
    let _ = world.api.post(&format!("/tasks/{id}/cancel"), &Value::Null).await.ok();
    let waited = tokio::task::spawn_blocking(move || waiting.wait_with_output().unwrap());
    let waited = timeout(LIMIT, waited).await.expect("the command still waits").unwrap();
    let said = String::from_utf8(waited.stderr).unwrap();
    assert!(waited.status.success(), "{said}");
    assert!(said.contains("canceled"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_tasks_has_pages_and_filters() {
    let world = World::own(&[]).await;
    let mut ids = Vec::new();
    for name in ["train-1", "train-2", "eval"] {
        ids.push(world.api.submit(&small_task("true").name(name)).await);
    }
    for id in &ids {
        let _ = world.api.wait_for(id, TaskState::Completed).await;
    }
    let list = async |query: &str| world.api.get(&format!("/tasks{query}")).await.ok();
    let names = |list: &Value| {
        let tasks = list["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(list("").await.get("next_cursor").is_none());
    assert_eq!(names(&list("?name=train*").await), ["train-1", "train-2"]);
    assert_eq!(names(&list("?status=failed,running").await), [""; 0]);
    let first = list("?limit=2").await;
    assert_eq!(names(&first), ["train-1", "train-2"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = list(&format!("?limit=2&cursor={cursor}")).await;
    assert_eq!(
        (names(&second), &second["next_cursor"]),
        (vec!["eval".to_owned()], &Value::Null)
    );
    let (_, _, message) = world.api.get("/tasks?cursor=x").await.invalid();
    assert!(message.contains("invalid cursor"), "{message}");
}
