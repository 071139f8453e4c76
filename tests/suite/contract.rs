//! Recorded requests get the recorded responses and create objects with all fields of the recorded objects.

use std::process::Command;

use e2e::{RawAnswer, World, raw};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

fn rows(file: &str) -> Vec<Value> {
    let path = format!("{}/wire/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Makes responses comparable: the message and position of a syntax error may differ, and so may the list of tasks.
fn comparable(body: &Value) -> Value {
    if body == "<a TaskListResponse>" || body["tasks"].is_array() {
        return json!("tasks");
    }
    let errors = body["detail"].as_array();
    if errors.is_some_and(|errors| errors.iter().any(|error| error["type"] == "json_invalid")) {
        return json!("json_invalid");
    }
    body.clone()
}

fn send(base: &str, row: &Value) -> RawAnswer {
    let headers: Vec<(&str, &[u8])> = row["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap().as_bytes()))
        .collect();
    let text = |key: &str| row[key].as_str().unwrap();
    raw(
        base,
        text("method"),
        text("path"),
        &headers,
        row["body"].as_str().map(str::as_bytes),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_requests_get_the_recorded_responses() {
    let world = World::new().await;
    let rows = rows("golden.jsonl");
    let mut differences = Vec::new();
    for row in &rows {
        let answer = send(world.api.base(), row);
        let mut differs = |what: &str, want: &Value, got: &Value| {
            if want != got {
                differences.push(format!("{}: {what}: want {want}, got {got}", row["name"]));
            }
        };
        differs("status", &row["status"], &json!(answer.status));
        let wanted = &row["answer_headers"];
        if let Some(allow) = wanted["allow"].as_str() {
            // A server that also answers HEAD or OPTIONS may say so.
            let allowed = answer.header("allow").unwrap_or_default();
            if !allowed.split(", ").any(|method| method == allow) {
                differs("allow", &json!(allow), &json!(allowed));
            }
        }
        if let Some(location) = wanted["location"].as_str() {
            let path = location.strip_prefix("http://HOST").unwrap();
            differs("location", &json!(path), &json!(answer.header("location")));
        }
        if row["method"] != "HEAD" && answer.status != 307 {
            differs("body", &comparable(&row["answer"]), &comparable(&answer.json()));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(rows.len(), 109);
}

/// The ID differs from row to row; everything else must be the same.
fn with_id(text: &Value, recorded: &str, ours: &str) -> Value {
    json!(text.as_str().unwrap().replace(recorded, ours))
}

fn assert_subset(what: &str, wanted: &Value, got: &Value, recorded: &str, ours: &str) {
    for (key, value) in wanted.as_object().into_iter().flatten() {
        // Creation times cannot be the same.
        if key != "created-at" {
            assert_eq!(with_id(value, recorded, ours), got[key], "{what} {key}");
        }
    }
}

/// Runs a command with its arguments as the kubelet would, and returns its output and exit code.
fn effect(container: &Value) -> (Vec<u8>, Option<i32>) {
    let part = |key: &str| {
        container[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
    };
    // The files that a node of a gang waits for.
    let gang = std::env::temp_dir().join(format!("k8s-cli-gang-{:016x}", fastrand::u64(..)));
    std::fs::create_dir(&gang).unwrap();
    for (file, text) in [("node-ips", "127.0.0.1\n127.0.0.2"), ("run", "true")] {
        std::fs::write(gang.join(file), text).unwrap();
    }
    let place = gang.to_str().unwrap();
    let local = |text: String| {
        let text = text.replace("/etc/k8s-cli-gang", place);
        text.replace("/etc/k8s-cli-state", place)
    };
    let mut words = part("command").chain(part("args").map(|text| local(kubelet(&text))));
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap());
    for variable in container["env"].as_array().unwrap() {
        // A variable without a value is an address from the pod.
        let value = variable["value"].as_str().unwrap_or("127.0.0.1");
        command.env(variable["name"].as_str().unwrap(), kubelet(value));
    }
    let output = command.output().unwrap();
    std::fs::remove_dir_all(&gang).unwrap();
    (output.stdout, output.status.code())
}

/// Expands `$$` as the kubelet does; no recorded request has a `$(NAME)`.
fn kubelet(text: &str) -> String {
    text.replace("$$", "$")
}

fn compare_job(name: &str, recorded: &Value, job: &Job, id: (&str, &str)) {
    let got = serde_json::to_value(job).unwrap();
    let (recorded_id, our_id) = id;
    assert_eq!(
        with_id(&recorded["metadata"]["name"], recorded_id, our_id),
        got["metadata"]["name"],
        "{name}"
    );
    for part in ["labels", "annotations"] {
        assert_subset(
            name,
            &recorded["metadata"][part],
            &got["metadata"][part],
            recorded_id,
            our_id,
        );
    }
    assert_eq!(recorded["spec"]["backoffLimit"], got["spec"]["backoffLimit"], "{name}");
    let (wanted, got) = (&recorded["spec"]["template"], &got["spec"]["template"]);
    assert_subset(
        name,
        &wanted["metadata"]["labels"],
        &got["metadata"]["labels"],
        recorded_id,
        our_id,
    );
    assert_eq!(wanted["spec"]["restartPolicy"], got["spec"]["restartPolicy"], "{name}");
    let (wanted, got) = (&wanted["spec"]["containers"][0], &got["spec"]["containers"][0]);
    for key in ["name", "image"] {
        assert_eq!(wanted[key], got[key], "{name} {key}");
    }
    for variable in wanted["env"].as_array().unwrap() {
        assert!(got["env"].as_array().unwrap().contains(variable), "{name} {variable}");
    }
    for kind in ["limits", "requests"] {
        for (resource, amount) in wanted["resources"][kind].as_object().into_iter().flatten() {
            assert_eq!(amount, &got["resources"][kind][resource], "{name} {resource}");
        }
    }
    assert_eq!(effect(wanted), effect(got), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_have_all_fields_of_the_recorded_jobs() {
    let world = World::new().await;
    let mut compared = 0;
    for row in rows("manifests.jsonl") {
        let name = row["name"].as_str().unwrap();
        // Unlike the recorded implementation, the server rejects a missing volume.
        let Some(recorded) = row["jobs"].as_array().filter(|_| name != "missing_volume") else {
            continue;
        };
        let ours = world.api.submit(&row["request"]).await;
        let id = (row["answer"]["task_id"].as_str().unwrap(), ours.as_str());
        let jobs = world.cluster.jobs(&ours).await;
        assert_eq!(recorded.len(), jobs.len(), "{name}");
        for (recorded, job) in recorded.iter().zip(&jobs) {
            compare_job(name, recorded, job, id);
        }
        let status = world.api.try_status(&ours).await.ok();
        for key in ["task_id", "name", "username"] {
            let wanted = match key {
                "username" => json!("alice@example.com"),
                _ => with_id(&row["task_status"][key], id.0, id.1),
            };
            assert_eq!(wanted, status[key], "{name} {key}");
        }
        for key in row["task_status"]["metadata"].as_object().unwrap().keys() {
            assert!(status["metadata"].get(key).is_some(), "{name} {key}");
        }
        assert_eq!(
            world.api.as_user("bob").try_status(&ours).await.status,
            row["other_user"]
        );
        let stopped = world.api.stop(&ours).await;
        assert_eq!(stopped.status, 200);
        assert_eq!(stopped.body["message"], with_id(&row["stop"][1]["message"], id.0, id.1));
        assert_eq!(world.api.try_status(&ours).await.status, row["after_stop"][0]);
        compared += 1;
    }
    assert_eq!(compared, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn pvcs_have_all_fields_of_the_recorded_pvcs() {
    let world = World::new().await;
    let mut compared = 0;
    for row in rows("manifests.jsonl") {
        let name = row["name"].as_str().unwrap();
        let Some(recorded) = row["pvcs"].get(0) else { continue };
        let ours = world.api.create_volume(&row["request"]).await;
        let recorded_id = row["answer"]["volume_id"].as_str().unwrap();
        let claim = serde_json::to_value(world.cluster.claim(&ours).await.unwrap()).unwrap();
        assert_eq!(
            with_id(&recorded["metadata"]["name"], recorded_id, &ours),
            claim["metadata"]["name"]
        );
        for part in ["labels", "annotations"] {
            assert_subset(
                name,
                &recorded["metadata"][part],
                &claim["metadata"][part],
                recorded_id,
                &ours,
            );
        }
        for key in ["accessModes", "resources", "storageClassName"] {
            assert_eq!(recorded["spec"][key], claim["spec"][key], "{name} {key}");
        }
        let status = world.api.try_volume(&ours).await.ok();
        for key in ["name", "size", "storage_class", "access_modes"] {
            assert_eq!(row["volume_status"][key], status[key], "{name} {key}");
        }
        let deleted = world.api.delete_volume(&ours).await.ok();
        assert_eq!(
            deleted["message"],
            with_id(&row["delete"][1]["message"], recorded_id, &ours)
        );
        assert_eq!(world.api.try_volume(&ours).await.status, 404);
        compared += 1;
    }
    assert_eq!(compared, 2);
}
