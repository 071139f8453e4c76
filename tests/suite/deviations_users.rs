//! Any header value is one exact user name. Users see only their own objects.

use e2e::{TaskBuilder, World, raw};
use serde_json::json;
use task::TaskState;

#[tokio::test(flavor = "multi_thread")]
async fn users_with_similar_names_see_only_their_own_objects() {
    let world = World::new().await;
    let long = "n".repeat(200);
    let names = [
        "a@b",
        "a-b",
        "a b",
        "a,b",
        "x,y",
        "x=y",
        "x!=y",
        "日本語",
        "a.b",
        "(a)",
        &long,
    ];
    let mut ids = Vec::new();
    for name in names {
        let user = world.api.as_user(name);
        let id = user.submit(&TaskBuilder::new("sleep 600").name("mine")).await;
        let volume = user.create_small_volume("mine").await;
        ids.push((name, id, volume));
    }
    for (name, id, volume) in &ids {
        let user = world.api.as_user(name);
        assert_eq!(user.task_ids().await, std::slice::from_ref(id), "{name}");
        assert_eq!(user.status(id).await.username, *name);
        assert_eq!(user.volumes().await.len(), 1, "{name}");
        assert_eq!(user.volume(volume).await.username, *name);
        for (other, ..) in ids.iter().filter(|(other, ..)| other != name) {
            let other = world.api.as_user(other);
            assert_eq!(other.try_status(id).await.error(404), format!("Task {id} not found"));
            assert_eq!(other.stop(id).await.status, 404);
            assert_eq!(other.delete_volume(volume).await.status, 404);
        }
    }
    for (name, id, _) in &ids {
        assert_eq!(world.api.as_user(name).stop(id).await.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_all_keeps_the_tasks_of_other_users() {
    let world = World::new().await;
    let [alice, bob] = ["a@b", "a-b"].map(|name| world.api.as_user(name));
    let kept = bob.run("sleep 600").await;
    alice.submit(&TaskBuilder::new("sleep 600").nodes(3)).await;
    alice.run("sleep 600").await;
    let answer = alice.post("/tasks/stop", &json!(null)).await.ok();
    // Tasks are counted, not Jobs.
    assert_eq!(
        (&answer["count"], &answer["message"]),
        (&json!(2), &json!("Stopped 2 tasks"))
    );
    assert_eq!(bob.task_ids().await, [kept]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_user_names_are_rejected() {
    let world = World::new().await;
    let long = vec![b'a'; 257];
    let names: [(&[u8], &str); 4] = [
        (b"", "string_too_short"),
        (&long, "value_error"),
        (b"a\tb", "value_error"),
        (b"a\xc2\x85b", "value_error"),
    ];
    for (name, kind) in names {
        let answer = raw(world.api.base(), "GET", "/tasks", &[("X-User", name)], None);
        assert_eq!(answer.status, 422, "{name:?}");
        let error = &answer.json()["detail"][0];
        assert_eq!(error["loc"], json!(["header", "x-user"]));
        assert_eq!(error["type"], kind);
    }
    let two: [(&str, &[u8]); 2] = [("X-User", b"alice"), ("X-User", b"bob")];
    assert_eq!(raw(world.api.base(), "GET", "/tasks", &two, None).status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn user_names_that_are_not_utf8_are_latin_1() {
    let world = World::new().await;
    let latin = world.api.as_user(b"caf\xe9");
    let id = latin.run("true").await;
    assert_eq!(world.api.as_user("café").status(&id).await.username, "café");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_the_python_implementation_belong_to_their_user() {
    let world = World::new().await;
    let labels =
        json!({"skypilot-task": "true", "task-id": "0123abcd", "task-name": "old", "username": "a-b", "node-idx": "0"});
    let pod_labels = json!({"skypilot-task": "true", "task-id": "0123abcd", "username": "a-b", "node-idx": "0"});
    let job = json!({
        "metadata": {
            "name": "old-0123abcd", "labels": labels,
            "annotations": {"created-at": "2026-11-23T15:30:34.854651", "num-nodes": "1"},
        },
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"labels": pod_labels},
            "spec": {"restartPolicy": "Never", "containers": [{
                "name": "task", "image": "python:3.13-slim", "command": ["/bin/bash", "-c"], "args": ["echo old"],
            }]},
        }},
    });
    let _: k8s_openapi::api::batch::v1::Job = world.cluster.make(job).await;
    let user = world.api.as_user("a@b");
    e2e::eventually(std::time::Duration::from_secs(10), "the Job to be seen", async || {
        (user.try_status("0123abcd").await.status == 200).then_some(())
    })
    .await;
    let status = user.wait_for("0123abcd", TaskState::Completed).await;
    assert_eq!(status.created_at, "2026-11-23T15:30:34.854651Z");
    assert_eq!(user.log_text("0123abcd", "").await, "old\n");
    assert_eq!(world.api.try_status("0123abcd").await.status, 404);
    assert_eq!(user.stop("0123abcd").await.status, 200);
}
