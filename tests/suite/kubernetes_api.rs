//! The embedded engine responds as a real kube-apiserver does to the same requests.
//!
//! `tests/api/requests.jsonl` has the requests, `tests/api/answers.json` the responses of a real Kubernetes. On a
//! cluster, the recording is compared with that cluster; `K8S_CLI_E2E_RECORD=1` records again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use e2e::{Backend, Cluster, World, eventually};
use futures::future::join_all;
use http::Request;
use serde_json::{Value, json};

/// Time limit for controllers.
const PATIENCE: Duration = Duration::from_secs(20);

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("api").join(name)
}

/// Sends a recorded request and returns the status and the body.
async fn send(cluster: &Cluster, request: &Value) -> (u16, Vec<u8>) {
    let fill = |text: &str| text.replace("{ns}", &cluster.namespace);
    let kind = request["type"].as_str().unwrap_or("application/json");
    let mut builder = Request::builder()
        .method(request["method"].as_str().unwrap())
        .uri(fill(request["path"].as_str().unwrap()));
    builder = match kind.strip_prefix("accept:") {
        Some(accept) => builder.header("accept", accept),
        None => builder.header("content-type", kind),
    };
    let body = match &request["body"] {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        body => fill(&body.to_string()).into_bytes(),
    };
    cluster.raw(builder.body(body).unwrap()).await
}

/// The part of a response that clients read: the status, the reason and its object, and the fields that the request
/// names.
async fn summary(cluster: &Cluster, request: &Value) -> Value {
    let (status, body) = send(cluster, request).await;
    let shown: Vec<&str> = request["show"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut summary = json!({"status": status});
    if shown.contains(&"status only") {
        // kube-apiserver answers these with text, the engine with a Status object, like everything else.
        return summary;
    }
    if status >= 400 {
        for (name, found) in [
            ("kind", &value["kind"]),
            ("reason", &value["reason"]),
            ("about", &value["details"]["kind"]),
            ("group", &value["details"]["group"]),
        ] {
            if !found.is_null() {
                summary[name] = found.clone();
            }
        }
        summary["causes"] = causes(&value);
        return summary;
    }
    for show in shown {
        summary[show] = match show {
            "names" => names(&value["items"]),
            "continues" => value["metadata"]["continue"].is_string().into(),
            "deleting" => value["metadata"]["deletionTimestamp"].is_string().into(),
            "events" => events(&body),
            "counted" | "gone" => json!(true),
            path => value.pointer(path).cloned().unwrap_or_default(),
        };
    }
    summary
}

/// The invalid fields, with the kind of error.
fn causes(status: &Value) -> Value {
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let mut all: Vec<String> = causes
        .filter_map(|cause| Some(format!("{} {}", cause["field"].as_str()?, cause["reason"].as_str()?)))
        .collect();
    all.sort_unstable();
    all.dedup();
    json!(all)
}

/// A name, without the suffix of generated names.
fn name(object: &Value) -> &str {
    let metadata = &object["metadata"];
    metadata["generateName"]
        .as_str()
        .or(metadata["name"].as_str())
        .unwrap_or_default()
}

/// Objects that a real cluster creates in each namespace.
const CLUSTERS_OWN: &str = "kube-root-ca.crt";

fn names(items: &Value) -> Value {
    let items = items.as_array().into_iter().flatten();
    let mut names: Vec<&str> = items.map(name).filter(|name| *name != CLUSTERS_OWN).collect();
    names.sort_unstable();
    json!(names)
}

fn events(body: &[u8]) -> Value {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut events: Vec<Value> = lines
        .map(|line| {
            let event: Value = serde_json::from_slice(line).unwrap();
            let object = &event["object"];
            match event["type"].as_str().unwrap() {
                "BOOKMARK" => json!(["BOOKMARK", object["metadata"]["annotations"]]),
                "ERROR" => json!(["ERROR", object["code"], object["reason"]]),
                kind => json!([kind, name(object)]),
            }
        })
        .collect();
    // A watch may or may not end with a bookmark.
    events.dedup();
    events.retain(|event| event[1] != CLUSTERS_OWN);
    events.retain(|event| event[0] != "BOOKMARK" || !event[1].is_null());
    json!(events)
}

/// Waits until controllers have processed the previous request.
async fn wait_for_controllers(cluster: &Cluster, request: &Value) {
    let shows = |what: &str| {
        request["show"]
            .as_array()
            .is_some_and(|list| list.iter().any(|one| one == what))
    };
    let what = request["name"].as_str().unwrap();
    if shows("gone") {
        eventually(PATIENCE, what, async || {
            (send(cluster, request).await.0 == 404).then_some(())
        })
        .await;
    }
    if shows("counted") {
        eventually(PATIENCE, what, async || {
            let body = send(cluster, request).await.1;
            let quota: Value = serde_json::from_slice(&body).unwrap();
            quota["status"]["hard"].is_object().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_requests_get_the_same_responses_everywhere() {
    let world = World::own(&[]).await;
    let requests = std::fs::read_to_string(file("requests.jsonl")).unwrap();
    let mut answers = BTreeMap::new();
    for line in requests.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        wait_for_controllers(&world.cluster, &request).await;
        let text = summary(&world.cluster, &request).await.to_string();
        let general = text.replace(&world.cluster.namespace, "{ns}");
        let answer: Value = serde_json::from_str(&general).unwrap();
        let name = request["name"].as_str().unwrap().to_owned();
        assert!(answers.insert(name.clone(), answer).is_none(), "`{name}` is not unique");
    }
    assert!(answers.len() >= 150);
    let path = file("answers.json");
    if std::env::var_os("K8S_CLI_E2E_RECORD").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&answers).unwrap() + "\n").unwrap();
        return;
    }
    let recorded: BTreeMap<String, Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let mut differences = Vec::new();
    for (name, answer) in &answers {
        let expected = recorded.get(name).unwrap_or(&Value::Null);
        if expected != answer {
            differences.push(format!("{name}\n    recorded {expected}\n    answered {answer}"));
        }
    }
    println!(
        "{} requests, {} with different responses",
        answers.len(),
        differences.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_an_old_resource_version_expires() {
    if Backend::Cluster.lacks("its operator configures how long it keeps changes") {
        return;
    }
    let world = World::own(&[]).await;
    let path = "/api/v1/namespaces/{ns}/configmaps";
    let body = json!({"metadata": {"name": "c"}, "data": {"n": "0"}});
    send(&world.cluster, &json!({"method": "POST", "path": path, "body": body})).await;
    let kind = "application/merge-patch+json";
    let patches = (1..1500).map(|number| {
        let body = json!({"data": {"n": number.to_string()}});
        json!({"method": "PATCH", "path": format!("{path}/c"), "type": kind, "body": body})
    });
    let patches: Vec<Value> = patches.collect();
    for some in patches.chunks(64) {
        join_all(some.iter().map(|patch| send(&world.cluster, patch))).await;
    }
    let watch = json!({"method": "GET", "path": format!("{path}?watch=true&resourceVersion=1&timeoutSeconds=1")});
    let (status, body) = send(&world.cluster, &watch).await;
    assert_eq!(status, 200);
    assert_eq!(events(&body), json!([["ERROR", 410, "Expired"]]));
}
