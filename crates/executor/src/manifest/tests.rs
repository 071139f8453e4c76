//! What Kubernetes is asked to make for a request, held against snapshots.

use jiff::Timestamp;
use serde_json::{Value, json};
use task::{Id, Name, TaskDefinition, UserName, VolumeDefinition};

use super::{Submission, claim, job, owner};

fn user() -> UserName {
    UserName::from_headers([&b"alice@example.com"[..]]).unwrap()
}

fn submission(body: &Value) -> Submission {
    let definition = TaskDefinition::parse(body, 1000).unwrap();
    let id = Id::derived(&[b"test"]);
    Submission {
        name: definition.name.clone().unwrap_or_else(|| Name::generated("task", &id)),
        id,
        user: user(),
        claims: definition
            .volumes
            .iter()
            .map(|mount| format!("{}-claim", mount.volume))
            .collect(),
        definition,
        created_at: Timestamp::UNIX_EPOCH,
        token: "token".to_owned(),
        fingerprint: "fingerprint".to_owned(),
    }
}

#[test]
fn a_minimal_task_is_one_job() {
    insta::assert_yaml_snapshot!(job(&submission(&json!({"run": "echo hi"})), 0, None));
}

#[test]
fn everything_asked_for_is_in_the_job() {
    let task = submission(&json!({
        "name": "My_Task", "num_nodes": 2, "workdir": "/tmp", "setup": "echo $(date)", "run": "echo $$",
        "envs": {"A": "$(B)", "NODE_RANK": "mine"},
        "volumes": {"/data": "d", "/again": "d", "/other": "e"},
        "resources": {"cpus": "500m", "memory": 2, "accelerators": "V100:2", "image_id": "docker:busybox"},
    }));
    let owner = crate::kubernetes::OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: task.base_name(),
        uid: "uid".to_owned(),
        ..Default::default()
    };
    insta::assert_yaml_snapshot!(job(&task, 1, Some(&owner)));
}

#[test]
fn the_owner_of_a_task_has_a_deadline() {
    insta::assert_yaml_snapshot!(owner(
        &submission(&json!({"run": "x", "num_nodes": 2})),
        Timestamp::UNIX_EPOCH
    ));
}

#[test]
fn a_long_script_is_mounted_from_the_owner() {
    let task = submission(&json!({"run": format!("# {}", "x".repeat(131_072))}));
    assert!(task.needs_owner());
    let data = owner(&task, Timestamp::UNIX_EPOCH).data.unwrap();
    assert_eq!(data["script"], task.definition.run);
    let manifest = job(&task, 0, None);
    insta::assert_yaml_snapshot!(
        manifest.spec.unwrap().template.spec.unwrap().containers[0]
            .args
            .as_ref()
            .unwrap()[2..]
    );
}

#[test]
fn a_volume_is_a_claim() {
    let definition = json!({"name": "data", "size": "1Gi", "access_modes": ["ReadWriteMany"], "storage_class": "fast"});
    let definition = VolumeDefinition::parse(&definition).unwrap();
    insta::assert_yaml_snapshot!(claim(
        &definition,
        &Id::derived(&[b"v"]),
        &user(),
        Timestamp::UNIX_EPOCH,
        "token"
    ));
}

#[test]
fn the_longest_job_name_fits() {
    let task = submission(&json!({"run": "x", "num_nodes": 1000, "name": "n".repeat(253)}));
    assert!(task.job_name(999).len() <= 63);
}
