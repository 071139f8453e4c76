//! The shapes of response bodies, with all of their fields in order. They are the same on every backend.

use e2e::{TaskBuilder, World};
use serde_json::{Value, json};
use task::TaskState;

/// Compares a snapshot without what differs from run to run or between backends: `id`, times, names of cluster nodes,
/// addresses, and messages of Kubernetes.
fn without_variable_parts(id: &str, compare: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    if !id.is_empty() {
        settings.add_filter(id, "[id]");
    }
    for (pattern, replacement) in [
        (r#""\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z""#, r#""[time]""#),
        (r#""namespace": "[^"]+""#, r#""namespace": "[namespace]""#),
        (r#""node_name": "[^"]+""#, r#""node_name": "[cluster node]""#),
        (r#""pod_ip": "[\d.]+""#, r#""pod_ip": "[address]""#),
        (r#"("pod_name": "[^"]+)-[a-z0-9]{5}""#, r#"$1-[suffix]""#),
        (
            r#""message": "0/\d+ nodes are available[^"]*""#,
            r#""message": "[message of the scheduler]""#,
        ),
        (r#""(cpus|memory)": "[^"]+""#, r#""$1": "[quantity]""#),
        (r#""machine": "[^"]+""#, r#""machine": "[machine]""#),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings.bind(compare);
}

/// Runs a script as a task named `hello`, waits for a state, and returns the ID and the status.
async fn run_until(world: &World, script: &str, state: TaskState) -> (String, Value) {
    let id = world.api.submit(&TaskBuilder::new(script).name("hello")).await;
    world.api.wait_for(&id, state).await;
    let status = world.api.try_status(&id).await.ok();
    (id, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_returns_the_task_id() {
    let world = World::new().await;
    let answer = world.api.try_submit(&TaskBuilder::new("true")).await;
    let (id, body) = (answer.clone().task_id(), answer.ok());
    without_variable_parts(&id, || {
        insta::assert_json_snapshot!(body, @r#"
        {
          "task_id": "[id]",
          "status": "submitted",
          "message": "Task submitted successfully with ID: [id]"
        }
        "#);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_task_has_an_exit_code_and_no_reason() {
    let world = World::new().await;
    let (id, status) = run_until(&world, "true", TaskState::Completed).await;
    without_variable_parts(&id, || {
        insta::assert_json_snapshot!(status, @r#"
        {
          "task_id": "[id]",
          "name": "hello",
          "status": "completed",
          "reason": null,
          "message": null,
          "created_at": "[time]",
          "updated_at": "[time]",
          "username": "alice@example.com",
          "metadata": {
            "job_name": "hello-[id]",
            "namespace": "[namespace]",
            "num_nodes": 1,
            "node_jobs": [
              "hello-[id]"
            ],
            "succeeded_nodes": 1,
            "failed_nodes": 0,
            "running_nodes": 0,
            "pending_nodes": 0,
            "attempts": [],
            "nodes": [
              {
                "rank": 0,
                "attempt": 1,
                "status": "completed",
                "reason": null,
                "message": null,
                "job_name": "hello-[id]",
                "pod_name": "hello-[id]-[suffix]",
                "node_name": "[cluster node]",
                "pod_ip": "[address]",
                "exit_code": 0,
                "started_at": "[time]",
                "finished_at": "[time]"
              }
            ]
          }
        }
        "#);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_task_has_the_reason_of_its_node() {
    let world = World::new().await;
    let (id, status) = run_until(&world, "exit 3", TaskState::Failed).await;
    without_variable_parts(&id, || {
        insta::assert_json_snapshot!(status, @r#"
        {
          "task_id": "[id]",
          "name": "hello",
          "status": "failed",
          "reason": "Error",
          "message": "the container exited with code 3",
          "created_at": "[time]",
          "updated_at": "[time]",
          "username": "alice@example.com",
          "metadata": {
            "job_name": "hello-[id]",
            "namespace": "[namespace]",
            "num_nodes": 1,
            "node_jobs": [
              "hello-[id]"
            ],
            "succeeded_nodes": 0,
            "failed_nodes": 1,
            "running_nodes": 0,
            "pending_nodes": 0,
            "attempts": [],
            "nodes": [
              {
                "rank": 0,
                "attempt": 1,
                "status": "failed",
                "reason": "Error",
                "message": "the container exited with code 3",
                "job_name": "hello-[id]",
                "pod_name": "hello-[id]-[suffix]",
                "node_name": "[cluster node]",
                "pod_ip": "[address]",
                "exit_code": 3,
                "started_at": "[time]",
                "finished_at": "[time]"
              }
            ]
          }
        }
        "#);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_tasks_has_their_status() {
    let world = World::own(&[]).await;
    let task = TaskBuilder::new("true").name("large").cpus("1000000");
    let id = world.api.submit(&task).await;
    world.api.wait_for_reason(&id, "Unschedulable").await;
    let list = world.api.get("/tasks").await.ok();
    without_variable_parts(&id, || {
        insta::assert_json_snapshot!(list, @r#"
        {
          "tasks": [
            {
              "task_id": "[id]",
              "name": "large",
              "status": "pending",
              "reason": "Unschedulable",
              "message": "[message of the scheduler]",
              "created_at": "[time]",
              "updated_at": "[time]",
              "username": "alice@example.com",
              "metadata": {
                "job_name": "large-[id]",
                "namespace": "[namespace]",
                "num_nodes": 1,
                "node_jobs": [
                  "large-[id]"
                ],
                "succeeded_nodes": 0,
                "failed_nodes": 0,
                "running_nodes": 0,
                "pending_nodes": 1,
                "attempts": [],
                "nodes": [
                  {
                    "rank": 0,
                    "attempt": 1,
                    "status": "pending",
                    "reason": "Unschedulable",
                    "message": "[message of the scheduler]",
                    "job_name": "large-[id]",
                    "pod_name": "large-[id]-[suffix]",
                    "node_name": null,
                    "pod_ip": null,
                    "exit_code": null,
                    "started_at": null,
                    "finished_at": null
                  }
                ]
              }
            }
          ]
        }
        "#);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_answered_with_the_task_id_or_the_number_of_tasks() {
    let world = World::own(&[]).await;
    let id = world.api.run("sleep 600").await;
    let stopped = world.api.stop(&id).await.ok();
    without_variable_parts(&id, || {
        insta::assert_json_snapshot!(stopped, @r#"
        {
          "task_id": "[id]",
          "status": "stopped",
          "message": "Task [id] stopped successfully"
        }
        "#);
    });
    let all_stopped = world.api.post("/tasks/stop", &Value::Null).await.ok();
    insta::assert_json_snapshot!(all_stopped, @r#"
    {
      "count": 0,
      "status": "stopped",
      "message": "Stopped 0 tasks"
    }
    "#);
}

/// The storage class does not exist, so the claim stays pending on every backend.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_has_its_claim_and_storage_class() {
    let world = World::own(&[]).await;
    let volume = json!({"name": "data", "size": "1Mi", "storage_class": "no-such-class"});
    let created = world.api.post("/volumes/create", &volume).await.ok();
    let id = created["volume_id"].as_str().unwrap();
    without_variable_parts(id, || {
        insta::assert_json_snapshot!(created, @r#"
        {
          "volume_id": "[id]",
          "status": "created",
          "message": "Volume created successfully with ID: [id]"
        }
        "#);
    });
    let list = world.api.get("/volumes").await.ok();
    without_variable_parts(id, || {
        insta::assert_json_snapshot!(list, @r#"
        {
          "volumes": [
            {
              "volume_id": "[id]",
              "name": "data",
              "size": "1Mi",
              "storage_class": "no-such-class",
              "access_modes": [
                "ReadWriteOnce"
              ],
              "status": "Pending",
              "created_at": "[time]",
              "username": "alice@example.com",
              "metadata": {
                "pvc_name": "data-[id]",
                "namespace": "[namespace]"
              }
            }
          ]
        }
        "#);
    });
    let status = world.api.try_volume(id).await.ok();
    assert_eq!(list, json!({ "volumes": [status] }));
    let deleted = world.api.delete_volume(id).await.ok();
    without_variable_parts(id, || {
        insta::assert_json_snapshot!(deleted, @r#"
        {
          "volume_id": "[id]",
          "status": "deleted",
          "message": "Volume [id] deleted successfully"
        }
        "#);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_node_has_what_pods_can_allocate() {
    let world = World::new().await;
    let mut body = world.api.get("/nodes").await.ok();
    // The number of nodes depends on the cluster.
    body["nodes"].as_array_mut().unwrap().truncate(1);
    body["nodes"][0]["name"] = "[cluster node]".into();
    without_variable_parts("", || {
        insta::assert_json_snapshot!(body, @r#"
        {
          "nodes": [
            {
              "name": "[cluster node]",
              "ready": true,
              "cpus": "[quantity]",
              "memory": "[quantity]",
              "gpus": 0
            }
          ]
        }
        "#);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_and_the_version_have_all_their_fields() {
    let world = World::new().await;
    for path in ["/healthz", "/readyz"] {
        let body = world.api.get(path).await.ok();
        insta::allow_duplicates! {
            insta::assert_json_snapshot!(body, @r#"
            {
              "status": "ok",
              "service": "k8s-cli-api"
            }
            "#);
        }
    }
    let mut version = world.api.get("/version").await.ok();
    for key in ["version", "backend", "kubernetes"] {
        assert!(version[key].is_string(), "{version}");
        version[key] = format!("[{key}]").into();
    }
    without_variable_parts("", || {
        insta::assert_json_snapshot!(version, @r#"
        {
          "version": "[version]",
          "backend": "[backend]",
          "namespace": "[namespace]",
          "kubernetes": "[kubernetes]",
          "machine": "[machine]"
        }
        "#);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_has_a_detail() {
    let world = World::new().await;
    let missing = world.api.try_status("nothere1").await;
    assert_eq!(missing.status, 404);
    insta::assert_json_snapshot!(missing.body, @r#"
    {
      "detail": "Task nothere1 not found"
    }
    "#);
    let key = format!("key-{:x}", fastrand::u64(..));
    let task = TaskBuilder::new("true");
    assert_eq!(world.api.submit_once(&key, &task).await.unwrap().status, 200);
    let reused = world.api.submit_once(&key, &task.name("other")).await.unwrap();
    assert_eq!(reused.status, 409);
    insta::assert_json_snapshot!(reused.body, @r#"
    {
      "detail": "the Idempotency-Key was already used for a different task; use a new key"
    }
    "#);
    let invalid = world.api.try_submit(&json!({"num_nodes": 0})).await;
    assert_eq!(invalid.status, 422);
    insta::assert_json_snapshot!(invalid.body, @r#"
    {
      "detail": [
        {
          "type": "greater_than_equal",
          "loc": [
            "body",
            "num_nodes"
          ],
          "msg": "Input should be greater than or equal to 1",
          "input": 0,
          "ctx": {
            "ge": 1
          }
        },
        {
          "type": "missing",
          "loc": [
            "body",
            "run"
          ],
          "msg": "Field required",
          "input": {
            "num_nodes": 0
          }
        }
      ]
    }
    "#);
}
