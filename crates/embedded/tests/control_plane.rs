//! The control plane on a paused clock: what it does on its own, and when.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::time::Duration;

use clock::Clock;
use embedded::{ControlPlane, NodeCapacity};
use futures::{AsyncBufReadExt, StreamExt};
use http::{Method, Request};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A control plane and a client for it.
struct World {
    plane: ControlPlane,
    client: Client,
}

impl World {
    async fn new() -> Self {
        Self::seeded(1).await
    }

    async fn seeded(seed: u64) -> Self {
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let plane = ControlPlane::start(clock, seed, NodeCapacity::default()).await.unwrap();
        let client = Client::new(plane.router(), "default");
        Self { plane, client }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> kube::Result<Value> {
        let content = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content);
        self.client
            .request(request.body(body.to_string().into_bytes()).unwrap())
            .await
    }

    async fn get(&self, path: &str) -> kube::Result<Value> {
        let request = Request::get(path).body(Vec::new()).unwrap();
        self.client.request(request).await
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        self.get(path).await.unwrap()["items"].as_array().cloned().unwrap()
    }

    async fn make_job(&self, spec: Value) -> Value {
        let mut job = json!({"metadata": {"name": "job"}, "spec": {"backoffLimit": 0}});
        job["spec"]["template"]["spec"] = json!({
            "restartPolicy": "Never",
            "containers": [{"name": "task", "image": "none", "resources": {"requests": {"cpu": "1"}}}],
        });
        for (name, value) in spec.as_object().into_iter().flatten() {
            job["spec"][name] = value.clone();
        }
        self.ask(Method::POST, JOBS, &job).await.unwrap()
    }

    async fn pod(&self) -> Value {
        self.list(PODS).await.pop().unwrap()
    }

    async fn set_status(&self, status: &Value) {
        let name = self.pod().await["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("{PODS}/{name}/status");
        self.ask(Method::PATCH, &path, &json!({"status": status}))
            .await
            .unwrap();
    }

    async fn job_conditions(&self) -> Vec<String> {
        let job = self.get(JOB).await.unwrap();
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions
            .iter()
            .map(|one| one["type"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Returns the events of a watch on Jobs until it ends, with the seconds after which they came.
    async fn watch(&self, parameters: &str) -> Vec<(String, u64)> {
        let start = Instant::now();
        let path = format!("{JOBS}?watch=true&{parameters}");
        let request = Request::get(path).body(Vec::new()).unwrap();
        let body = self.client.request_stream(request).await.unwrap();
        let mut lines = std::pin::pin!(body.lines());
        let mut told = Vec::new();
        while let Some(line) = lines.next().await {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let word = event["type"].as_str().unwrap().to_owned();
            told.push((word, start.elapsed().as_secs()));
        }
        told.push(("end".to_owned(), start.elapsed().as_secs()));
        told
    }
}

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const JOB: &str = "/apis/batch/v1/namespaces/default/jobs/job";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn told(events: &[(&str, u64)]) -> Vec<(String, u64)> {
    events.iter().map(|(word, at)| ((*word).to_owned(), *at)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_to_the_node_and_ends_as_its_pods_status_says() {
    let world = World::new().await;
    world.make_job(json!({})).await;
    let pod = world.pod().await;
    assert_eq!(pod["spec"]["nodeName"], "node");
    assert_eq!(pod["status"]["phase"], "Pending");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        world.pod().await["status"]["phase"],
        "Pending",
        "nothing has reported that it runs"
    );
    world.set_status(&json!({"phase": "Running"})).await;
    world.set_status(&json!({"phase": "Succeeded"})).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.job_conditions().await, ["SuccessCriteriaMet", "Complete"]);
    world.plane.stop();
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pod_stays_until_the_node_says_that_it_ended() {
    let world = World::new().await;
    world.make_job(json!({})).await;
    world.set_status(&json!({"phase": "Running"})).await;
    world
        .ask(Method::DELETE, JOB, &json!({"propagationPolicy": "Background"}))
        .await
        .unwrap();
    sleep(Duration::from_secs(100)).await;
    let pod = world.pod().await;
    assert_eq!(pod["metadata"]["deletionTimestamp"], "1970-01-01T00:00:30Z");
    world.set_status(&json!({"phase": "Failed"})).await;
    let path = format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap());
    world
        .ask(Method::DELETE, &path, &json!({"gracePeriodSeconds": 0}))
        .await
        .unwrap();
    assert!(world.list(PODS).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_the_time_to_live_of_a_job_pass_in_simulated_time() {
    let world = World::new().await;
    let start = std::time::Instant::now();
    world
        .make_job(json!({"activeDeadlineSeconds": 600, "ttlSecondsAfterFinished": 300}))
        .await;
    world.set_status(&json!({"phase": "Running"})).await;
    sleep(Duration::from_secs(590)).await;
    assert!(world.job_conditions().await.is_empty());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(world.job_conditions().await, ["FailureTarget"]);
    assert!(world.pod().await["metadata"]["deletionTimestamp"].is_string());
    world.set_status(&json!({"phase": "Failed"})).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.job_conditions().await, ["FailureTarget", "Failed"]);
    sleep(Duration::from_secs(290)).await;
    assert!(world.get(JOB).await.is_ok());
    sleep(Duration::from_secs(20)).await;
    assert!(world.get(JOB).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(10), "the time is simulated");
}

#[tokio::test(start_paused = true)]
async fn a_watch_has_bookmarks_every_minute_and_two_seconds_before_its_end() {
    let world = World::new().await;
    world.make_job(json!({})).await;
    let bookmarked = world
        .watch("resourceVersion=0&timeoutSeconds=150&allowWatchBookmarks=true")
        .await;
    let expected = [
        ("ADDED", 0),
        ("BOOKMARK", 0),
        ("BOOKMARK", 60),
        ("BOOKMARK", 120),
        ("BOOKMARK", 148),
        ("end", 150),
    ];
    assert_eq!(bookmarked, told(&expected));
    let now = world.get(JOBS).await.unwrap()["metadata"]["resourceVersion"].clone();
    let from = format!("resourceVersion={}&timeoutSeconds", now.as_str().unwrap());
    let short = world.watch(&format!("{from}=3&allowWatchBookmarks=true")).await;
    assert_eq!(short, told(&[("BOOKMARK", 1), ("end", 3)]));
    let shorter = world.watch(&format!("{from}=1&allowWatchBookmarks=true")).await;
    assert_eq!(shorter, told(&[("end", 1)]));
    let plain = world.watch(&format!("{from}=150")).await;
    assert_eq!(plain, told(&[("end", 150)]));
}

#[tokio::test(start_paused = true)]
async fn nobody_has_written_a_log() {
    let world = World::new().await;
    world.make_job(json!({})).await;
    let running =
        json!({"name": "task", "state": {"running": {}}, "ready": true, "restartCount": 0, "image": "", "imageID": ""});
    world
        .set_status(&json!({"phase": "Running", "containerStatuses": [running]}))
        .await;
    let name = world.pod().await["metadata"]["name"].as_str().unwrap().to_owned();
    let request = Request::get(format!("{PODS}/{name}/log?follow=true"))
        .body(Vec::new())
        .unwrap();
    assert_eq!(world.client.request_text(request).await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_objects() {
    let mut seen = Vec::new();
    for seed in [7, 7, 8] {
        let world = World::seeded(seed).await;
        world.make_job(json!({})).await;
        seen.push((world.pod().await, world.get(JOB).await.unwrap()));
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
}

/// A deadline of 2^63-1 once ended the engine's only writer.
#[tokio::test(start_paused = true)]
async fn no_number_of_an_object_keeps_others_from_being_written() {
    let world = World::new().await;
    let most = i64::MAX;
    world
        .make_job(json!({"activeDeadlineSeconds": most, "ttlSecondsAfterFinished": i32::MAX}))
        .await;
    world.set_status(&json!({"phase": "Running"})).await;
    sleep(Duration::from_secs(7 * 24 * 3600)).await;
    assert_eq!(world.job_conditions().await, Vec::<String>::new());
    let body = json!({"status": {"succeeded": i32::MAX, "failed": i32::MAX}});
    let path = format!("{JOB}/status");
    world.ask(Method::PATCH, &path, &body).await.unwrap();
    world.set_status(&json!({"phase": "Failed"})).await;
    sleep(Duration::from_secs(1)).await;
    let map = json!({"metadata": {"name": "other"}});
    world
        .ask(Method::POST, "/api/v1/namespaces/default/configmaps", &map)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn numbers_that_nothing_can_do_are_refused() {
    let world = World::new().await;
    let container = json!({"name": "task", "image": "none"});
    let pod = |deadline: i64| {
        json!({
            "metadata": {"name": "pod"},
            "spec": {"restartPolicy": "Never", "containers": [container], "activeDeadlineSeconds": deadline},
        })
    };
    for deadline in [0, i64::from(i32::MAX) + 1, i64::MAX] {
        let refused = world
            .ask(Method::POST, PODS, &pod(deadline))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("must be between 1 and 2147483647, inclusive"),
            "{refused}"
        );
    }
    world.ask(Method::POST, PODS, &pod(i32::MAX.into())).await.unwrap();
    let job = json!({"metadata": {"name": "job"}, "spec": {"parallelism": i32::MAX, "template": {"spec": {
        "restartPolicy": "Never", "containers": [container],
    }}}});
    let refused = world.ask(Method::POST, JOBS, &job).await.unwrap_err().to_string();
    assert!(refused.contains("must be less than or equal to 1000"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_question_for_more_time_than_there_is_is_answered() {
    let world = World::new().await;
    world.make_job(json!({})).await;
    let day = 24 * 3600;
    let told = world.watch(&format!("timeoutSeconds={}", i64::MAX)).await;
    assert_eq!(told.last().unwrap(), &("end".to_owned(), day));
    let name = world.pod().await["metadata"]["name"].as_str().unwrap().to_owned();
    world
        .set_status(&json!({"containerStatuses": [{"name": "task", "state": {"running": {}}}]}))
        .await;
    let request = Request::get(format!("{PODS}/{name}/log?sinceSeconds={}", i64::MAX));
    world
        .client
        .request_text(request.body(Vec::new()).unwrap())
        .await
        .unwrap();
}

/// The HTTP status of a request that is refused.
async fn refused(world: &World, method: Method, path: &str, body: &Value) -> u16 {
    match world.ask(method, path, body).await {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("{path}: {other:?}"),
    }
}

fn small_pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "none"}]},
    })
}

/// Anybody can write an owner reference.
#[tokio::test(start_paused = true)]
async fn a_pod_that_only_names_a_job_does_not_belong_to_it() {
    let world = World::new().await;
    let job = world.make_job(json!({})).await;
    let own = world.pod().await["metadata"]["name"].as_str().unwrap().to_owned();
    for (name, is_controller) in [("a", false), ("b", true)] {
        let mut forged = small_pod(name);
        forged["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": job["metadata"]["uid"],
            "controller": is_controller,
        }]);
        world.ask(Method::POST, PODS, &forged).await.unwrap();
        let ended = json!({"status": {"phase": "Succeeded"}});
        let path = format!("{PODS}/{name}/status");
        world.ask(Method::PATCH, &path, &ended).await.unwrap();
    }
    let touched = json!({"metadata": {"annotations": {"x": "y"}}});
    let job = world.ask(Method::PATCH, JOB, &touched).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(job["status"]["active"], 1);
    assert!(world.job_conditions().await.is_empty());
    let own = world.get(&format!("{PODS}/{own}")).await.unwrap();
    assert!(own["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_job_was_deleted_without_it_can_be_deleted() {
    let world = World::new().await;
    world.make_job(json!({})).await;
    let orphan = json!({"propagationPolicy": "Orphan"});
    world.ask(Method::DELETE, JOB, &orphan).await.unwrap();
    let pod = world.pod().await;
    assert!(pod["metadata"]["finalizers"].is_null(), "{pod}");
    let path = format!("{PODS}/{}", pod["metadata"]["name"].as_str().unwrap());
    let now = json!({"gracePeriodSeconds": 0});
    world.ask(Method::DELETE, &path, &now).await.unwrap();
    assert!(world.list(PODS).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_of_another_controller_is_left_alone() {
    let world = World::new().await;
    world.make_job(json!({"managedBy": "example.com/other"})).await;
    sleep(Duration::from_secs(1)).await;
    assert!(world.list(PODS).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_its_finalizer_gets_it_back() {
    let world = World::new().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    world.ask(Method::POST, claims, &claim).await.unwrap();
    let path = format!("{claims}/data");
    let none = json!({"metadata": {"finalizers": null}});
    world.ask(Method::PATCH, &path, &none).await.unwrap();
    let claim = world.get(&path).await.unwrap();
    assert_eq!(claim["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_kubelet_gets_no_pods() {
    let world = World::new().await;
    let node = json!({"metadata": {"name": "zzz"}, "spec": {"unschedulable": true}});
    world.ask(Method::POST, "/api/v1/nodes", &node).await.unwrap();
    world.make_job(json!({})).await;
    assert_eq!(world.pod().await["spec"]["nodeName"], "node");
    world
        .ask(Method::DELETE, "/api/v1/nodes/zzz", &json!({}))
        .await
        .unwrap();
    world.ask(Method::POST, PODS, &small_pod("later")).await.unwrap();
    let later = world.get(&format!("{PODS}/later")).await.unwrap();
    assert_eq!(later["spec"]["nodeName"], "node");
}

#[tokio::test(start_paused = true)]
async fn what_kube_apiserver_forbids_is_forbidden() {
    let world = World::new().await;
    let default = "/api/v1/namespaces/default";
    assert_eq!(refused(&world, Method::DELETE, default, &json!({})).await, 403);
    let mut without_owner = small_pod("a");
    without_owner["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "b", "uid": ""}]);
    assert_eq!(refused(&world, Method::POST, PODS, &without_owner).await, 422);
    world.ask(Method::POST, PODS, &small_pod("bound")).await.unwrap();
    let bound = format!("{PODS}/bound");
    let unbind = json!({"spec": {"nodeName": null}});
    assert_eq!(refused(&world, Method::PATCH, &bound, &unbind).await, 422);
    for path in ["/x", "../x", "a/../../x", "..x"] {
        let mut pod = small_pod("paths");
        pod["spec"]["volumes"] = json!([
            {"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": path}]}},
        ]);
        assert_eq!(refused(&world, Method::POST, PODS, &pod).await, 422, "{path}");
        pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v", "subPath": path}]);
        assert_eq!(refused(&world, Method::POST, PODS, &pod).await, 422, "{path}");
    }
}
