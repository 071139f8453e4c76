//! Compares the manifests of requests with snapshots.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use task::definition::VolumeSource;
use task::{Execution, Id, Name, Recovery, TaskDefinition, UserName, VolumeDefinition};

use super::{
    Submission, SubmissionGroup, claim, environment, job, next_attempt, owner, port_ingress, port_service, redacted,
    secrets, service,
};

use crate::cache::GroupMember;
use crate::delivery::{Delivery, FetchFrom, FetchedFiles, FilesSecret};
use crate::fingerprint::Fingerprint;
use crate::kubernetes::Job;
use crate::labels;
use crate::placement::{NodeLabel, Placement};
use crate::settings::{Defaults, HelperProgram, PodSecurity, PodSettings, PortExposure, PortIngress};

fn user() -> UserName {
    UserName::from_bytes(b"alice@example.com").unwrap()
}

fn submission(body: &Value) -> Submission {
    let definition = TaskDefinition::parse(body, 1000).unwrap();
    let fingerprint = Fingerprint::of(&definition).unwrap();
    let id = Id::from_hash(&[b"test"]);
    Submission {
        name: definition.name.clone().unwrap_or_else(|| Name::generate("task", &id)),
        id,
        user: user(),
        claims: definition
            .volumes
            .iter()
            .map(|mount| match &mount.source {
                VolumeSource::Named { volume, .. } => Some(format!("{volume}-claim")),
                VolumeSource::Ephemeral { .. } => None,
            })
            .collect(),
        definition,
        files: Delivery::Packed(Vec::new()),
        files_owner: "".into(),
        placement: Placement::default(),
        created_at: Timestamp::UNIX_EPOCH,
        token: "token".to_owned(),
        try_token: "try".to_owned(),
        fingerprint,
        defaults: Defaults::default(),
        pods: PodSettings::default(),
        group: None,
        is_archived: false,
    }
}

fn in_pipeline(body: &Value) -> Submission {
    let member = GroupMember::example(1, 3, Execution::Serial);
    Submission {
        token: member.token_of(1),
        group: Some(SubmissionGroup {
            member,
            task_ids: "first\nsecond\nthird".into(),
        }),
        ..submission(body)
    }
}

#[test]
fn ports_have_a_service_in_front_of_the_first_node() {
    let mut task = submission(&json!({"run": "true", "num_nodes": 2, "resources": {"ports": [9000, "8080-8081"]}}));
    insta::assert_yaml_snapshot!(port_service(&task, None));
    assert_eq!(
        job(&task, 0, None).metadata.annotations.unwrap()["k8s-cli/ports"],
        "8080,8081,9000"
    );
    task.pods.ports = PortExposure::PodAddress;
    assert_eq!(port_service(&task, None), None);
    let single = submission(&json!({"run": "true", "resources": {"ports": 80}}));
    assert!(single.needs_owner(), "the Service is deleted with the task");
    task.pods.ports = PortExposure::Ingress(PortIngress {
        domain: "apps.example.com".to_owned(),
        class: Some("nginx".to_owned()),
        tls_secret: Some("wildcard".to_owned()),
    });
    insta::assert_yaml_snapshot!(
        "ports_have_host_names_outside_of_the_cluster",
        port_ingress(&task, None)
    );
    let annotations = job(&task, 0, None).metadata.annotations.unwrap();
    assert_eq!(
        annotations["k8s-cli/port-url"],
        format!("https://{}-{{port}}.apps.example.com", task.id)
    );
}

#[test]
fn a_volume_with_a_size_is_created_with_each_pod() {
    let config = json!({"storage_class_name": "fast", "access_mode": "ReadWriteOncePod"});
    let task = submission(&json!({"run": "true", "volumes": {
        "/data": "d", "/scratch": {"size": "100GB", "labels": {"team": "nlp"}, "config": config}, "/tmp2": {"size": "1"},
    }}));
    insta::assert_yaml_snapshot!(job(&task, 0, None).spec.unwrap().template.spec.unwrap().volumes);
}

#[test]
fn a_task_of_a_group_is_created_suspended() {
    let task = in_pipeline(&json!({"run": "echo hi"}));
    let job = job(&task, 0, None);
    let spec = job.spec.as_ref().unwrap();
    assert_eq!(spec.suspend, Some(true));
    assert_eq!(job.metadata.annotations.as_ref().unwrap()["k8s-cli/held"], "{}");
    assert_eq!(job.metadata.labels.as_ref().unwrap()["k8s-cli/group-id"], "group000");
    let pod = spec.template.spec.as_ref().unwrap();
    let ids = pod.containers[0]
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == "SKYPILOT_TASK_IDS");
    assert_eq!(ids.unwrap().value.as_deref(), Some("first\nsecond\nthird"));
    insta::assert_yaml_snapshot!(owner(&task, Timestamp::UNIX_EPOCH));
    let next = next_attempt(job, 2, 0).unwrap();
    assert_eq!(next.spec.unwrap().suspend, None, "a retry follows a start");
    assert!(!next.metadata.annotations.unwrap().contains_key("k8s-cli/held"));
}

#[test]
fn each_alternative_follows_the_one_that_was_not_scheduled() {
    let mut task = submission(&json!({"run": "true", "num_nodes": 2, "setup": "true",
        "config": {"kubernetes": {"provision_timeout": 60}}, "resources": {"cpus": 8, "memory": 4}}));
    let alternative = |resources: &Value| {
        let resources = TaskDefinition::parse(&json!({"run": "true", "resources": resources}), 1);
        Placement {
            resources: resources.unwrap().resources,
            ..Placement::default()
        }
    };
    let spot = NodeLabel {
        key: "cloud.google.com/gke-spot",
        value: "true",
    };
    task.placement.next = vec![
        alternative(&json!({"accelerators": {"L4": 2}, "image_id": "docker:cuda"})),
        Placement {
            spot: vec![spot],
            ..alternative(&json!({"cpus": 1}))
        },
    ];
    let pods = |number: Option<usize>| {
        let mut task = task.clone();
        if let Some(placement) = number.map(|number| task.placement.next[number].clone()) {
            task.definition.resources = placement.resources.clone();
            task.placement = placement;
        }
        job(&task, 1, None).spec.unwrap().template
    };
    let first = job(&task, 1, None);
    let timed_out = |mut job: Job| {
        let annotations = job.metadata.annotations.as_mut().unwrap();
        annotations.insert(labels::PROVISION_TIMED_OUT.to_owned(), "full".to_owned());
        job
    };
    let retried = next_attempt(first.clone(), 2, 1).unwrap();
    assert_eq!(retried.spec.unwrap().template, pods(None), "it was scheduled");
    let second = next_attempt(timed_out(first.clone()), 2, 0).unwrap();
    assert_eq!(second.spec.as_ref().unwrap().template, pods(Some(0)));
    let third = next_attempt(timed_out(second), 3, 0).unwrap();
    assert_eq!(third.spec.as_ref().unwrap().template, pods(Some(1)));
    assert!(!third.metadata.annotations.unwrap().contains_key(labels::ALTERNATIVES));
    // Somebody has edited the list.
    let mut edited = timed_out(first);
    let annotations = edited.metadata.annotations.as_mut().unwrap();
    annotations.insert(
        labels::ALTERNATIVES.to_owned(),
        r#"[[{"op":"remove","path":"/nothing"}]]"#.to_owned(),
    );
    let last = next_attempt(edited, 2, 0).unwrap();
    assert_eq!(last.spec.unwrap().template, pods(None));
    assert!(!last.metadata.annotations.unwrap().contains_key(labels::ALTERNATIVES));
    task.definition.kubernetes.provision_timeout = None;
    let annotations = job(&task, 0, None).metadata.annotations.unwrap();
    assert!(!annotations.contains_key(labels::ALTERNATIVES), "nothing times out");
}

#[test]
fn a_task_of_a_group_enters_its_queue_when_it_starts() {
    let queue = json!({"kubernetes": {"kueue": {"local_queue_name": "gpus"}}});
    let task = in_pipeline(&json!({"run": "true", "config": queue}));
    let job = job(&task, 0, None);
    let is_queued = |job: &Job| {
        job.metadata
            .labels
            .as_ref()
            .unwrap()
            .contains_key("kueue.x-k8s.io/queue-name")
    };
    assert!(!is_queued(&job), "Kueue would admit it");
    assert_eq!(job.metadata.annotations.unwrap()["k8s-cli/held"], r#"{"queue":"gpus"}"#);
    let several = in_pipeline(&json!({"run": "true", "num_nodes": 2, "config": queue}));
    let held = super::job(&several, 0, None).metadata.annotations.unwrap()["k8s-cli/held"].clone();
    assert_eq!(held, "{}", "the pods of a gang enter the queue, which do not exist yet");
}

#[test]
fn a_minimal_task_is_one_job() {
    insta::assert_yaml_snapshot!(job(&submission(&json!({"run": "echo hi"})), 0, None));
}

#[test]
fn what_is_large_is_stored_once_for_several_nodes() {
    let value = "x".repeat(100);
    let envs: serde_json::Map<_, _> = (0..100).map(|index| (format!("V{index}"), json!(value))).collect();
    let run = format!("echo ran; {}", "#".repeat(5000));
    let bytes = |job: &Job| serde_json::to_vec(job).unwrap().len();
    let one = submission(&json!({"run": run, "envs": envs}));
    assert!(environment(&one, None).is_none() && !one.needs_owner());
    assert!(bytes(&job(&one, 0, None)) > 15_000);
    let several = submission(&json!({"run": run, "envs": envs, "num_nodes": 2}));
    assert!(bytes(&job(&several, 1, None)) < 10_000);
    let stored = environment(&several, None).unwrap();
    assert_eq!(stored.data.unwrap().len(), 100);
    assert!(
        !stored.metadata.labels.unwrap().contains_key(crate::labels::TASK),
        "it would be taken for the task"
    );
    let script = owner(&several, Timestamp::UNIX_EPOCH).data.unwrap();
    assert!(script.values().any(|text| text.contains("echo ran")));
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
fn nodes_of_several_have_host_names() {
    let task = submission(&json!({"run": "x", "num_nodes": 2}));
    insta::assert_yaml_snapshot!(service(&task, None));
    let pod = job(&task, 1, None).spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.hostname.as_deref(), Some("node-1"));
    assert_eq!(pod.subdomain, service(&task, None).metadata.name);
    let single = submission(&json!({"run": "x"}));
    assert_eq!(
        job(&single, 0, None).spec.unwrap().template.spec.unwrap().hostname,
        None
    );
}

#[test]
fn what_the_task_says_goes_before_what_the_server_does() {
    let minute = Some(Duration::from_secs(60));
    let with_defaults = |body: &Value| Submission {
        defaults: Defaults {
            max_duration: minute,
            provision_timeout: minute,
            ttl_after_finished: minute,
        },
        ..submission(body)
    };
    let says_nothing = with_defaults(&json!({"run": "x"}));
    assert_eq!(
        (says_nothing.max_duration(), says_nothing.provision_timeout()),
        (Some(60), Some(60))
    );
    let says = with_defaults(&json!({
        "run": "x", "max_duration": "2m", "config": {"kubernetes": {"provision_timeout": -1}},
    }));
    assert_eq!((says.max_duration(), says.provision_timeout()), (Some(120), None));
    // Kubernetes deletes a single Job; the Jobs of other tasks are deleted together.
    let ttl = |task: &Submission| job(task, 0, None).spec.unwrap().ttl_seconds_after_finished;
    assert_eq!(ttl(&says_nothing), Some(60));
    assert_eq!(ttl(&with_defaults(&json!({"run": "x", "num_nodes": 2}))), None);
}

#[test]
fn a_task_waits_in_the_queue_that_it_names() {
    let task = submission(&json!({"run": "x", "config": {"kubernetes": {"kueue": {"local_queue_name": "team-a"}}}}));
    let labels = job(&task, 0, None).metadata.labels.unwrap();
    assert_eq!(labels["kueue.x-k8s.io/queue-name"], "team-a");
}

#[test]
fn several_nodes_wait_in_the_queue_as_a_group_of_pods() {
    let queued =
        json!({"run": "x", "num_nodes": 3, "config": {"kubernetes": {"kueue": {"local_queue_name": "team-a"}}}});
    let task = submission(&queued);
    let first = job(&task, 2, None);
    // Kueue would admit a Job in a queue without the others.
    let without_queue = |job: &Job| {
        !job.metadata
            .labels
            .as_ref()
            .unwrap()
            .contains_key("kueue.x-k8s.io/queue-name")
    };
    let pod = |job: &Job| job.spec.clone().unwrap().template.metadata.unwrap();
    assert!(without_queue(&first));
    let (labels, annotations) = (pod(&first).labels.unwrap(), pod(&first).annotations.unwrap());
    assert_eq!(labels["kueue.x-k8s.io/queue-name"], "team-a");
    assert_eq!(labels["kueue.x-k8s.io/pod-group-name"], format!("task-{}", task.id));
    assert_eq!(annotations["kueue.x-k8s.io/pod-group-total-count"], "3");
    assert_eq!(annotations["kueue.x-k8s.io/retriable-in-group"], "false");
    assert_eq!(
        task.recovery(),
        Some(Recovery::default()),
        "what Kueue takes back is let in again"
    );
    let second = next_attempt(first, 2, 0).unwrap();
    assert!(without_queue(&second));
    let group = format!("task-{}-attempt-2", task.id);
    assert_eq!(pod(&second).labels.unwrap()["kueue.x-k8s.io/pod-group-name"], group);
}

#[test]
fn a_long_script_is_mounted_from_the_owner() {
    let task = submission(&json!({"run": format!("# {}", "x".repeat(131_072))}));
    assert!(task.needs_owner());
    let data = owner(&task, Timestamp::UNIX_EPOCH).data.unwrap();
    assert!(data["script"].ends_with(&task.definition.run));
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
        &Id::from_hash(&[b"v"]),
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

/// A task whose nodes fetch its files.
fn fetching(body: &Value, from: FetchFrom) -> Submission {
    let secret = FilesSecret::example();
    Submission {
        files: Delivery::Fetched(FetchedFiles { secret, from }),
        ..submission(body)
    }
}

fn from_server() -> FetchFrom {
    FetchFrom::Cluster {
        url: "http://k8s-cli.tasks.svc:8000".to_owned(),
        image: "registry.example.com/k8s-cli-helper:1.0".to_owned(),
    }
}

#[test]
fn nodes_that_fetch_files_have_the_program_the_address_and_the_token() {
    let sets = json!({".": "a".repeat(64), "/data/my.ini": format!("{}/my.ini", "b".repeat(64))});
    let resources = json!({"cpus": 2, "memory": "4Gi", "accelerators": "H100:1"});
    let mut task = fetching(
        &json!({"run": "true", "files": sets, "resources": resources}),
        from_server(),
    );
    task.pods.security = PodSecurity::Restricted;
    let made = job(&task, 0, None);
    let pod = made.spec.unwrap().template.spec.unwrap();
    let (container, init) = (&pod.containers[0], &pod.init_containers.as_ref().unwrap()[0]);
    insta::assert_yaml_snapshot!(json!({
        "args": container.args.as_ref().unwrap().last(),
        "env": container.env.iter().flatten().filter(|variable| variable.name.contains("FILES")).collect::<Vec<_>>(),
        "mounts": container.volume_mounts,
        "volumes": pod.volumes,
        "init": init,
    }));
    let begin = container.args.as_ref().unwrap()[0].as_str();
    assert!(
        begin.contains("\nunset K8S_CLI_FILES_TOKEN"),
        "hooks do not see it: {begin}"
    );
}

#[test]
fn the_token_of_a_task_is_in_a_secret_of_its_own_and_its_hash_in_the_owner() {
    let task = fetching(&json!({"run": "true", "files": {".": "a".repeat(64)}}), from_server());
    let made = secrets(&task, None);
    let [secret] = made.as_slice() else { panic!("{made:?}") };
    let token = secret.string_data.as_ref().unwrap()["token"].clone();
    assert_eq!(token, format!("{}.{}", task.id, "5".repeat(64)));
    let annotations = owner(&task, Timestamp::UNIX_EPOCH).metadata.annotations.unwrap();
    assert_eq!(annotations["k8s-cli/file-sets"], "a".repeat(64));
    let hashes: Vec<_> = annotations
        .iter()
        .filter(|(name, _)| name.starts_with("k8s-cli/files-token-"))
        .collect();
    assert_eq!(hashes.len(), 1);
    assert!(!serde_json::to_string(&annotations).unwrap().contains(&"5".repeat(64)));
    assert!(!format!("{:?}", job(&task, 0, None)).contains(&"5".repeat(64)));
    assert!(
        !serde_json::to_string(&redacted(secret.clone()))
            .unwrap()
            .contains(&"5".repeat(64))
    );
}

#[test]
fn on_this_machine_nodes_fetch_files_with_the_servers_own_program() {
    let from = FetchFrom::ThisMachine {
        program: "/usr/bin/k8s-cli-api".into(),
        address_dir: "/state/server".into(),
    };
    let task = fetching(&json!({"run": "true", "files": {".": "a".repeat(64)}}), from);
    let pod = job(&task, 0, None).spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.init_containers, None);
    let container = &pod.containers[0];
    insta::assert_yaml_snapshot!(json!({
        "env": container.env.iter().flatten().filter(|variable| variable.name.contains("FILES")).collect::<Vec<_>>(),
        "mounts": container.volume_mounts,
        "volumes": pod.volumes,
    }));
}

#[test]
fn nodes_that_copy_have_the_program_once_and_no_token() {
    let program = |task: &Submission| {
        let pod = job(task, 0, None).spec.unwrap().template.spec.unwrap();
        let volumes = pod.volumes.unwrap_or_default();
        let found: Vec<_> = volumes
            .into_iter()
            .filter(|volume| volume.name == "k8s-cli-helper")
            .collect();
        let images = pod.init_containers.unwrap_or_default();
        (
            found,
            images
                .into_iter()
                .filter_map(|container| container.image)
                .collect::<Vec<_>>(),
        )
    };
    let body = json!({"run": "true", "file_mounts": {"/data": "s3://data/x"}, "files": {"/code": "a".repeat(64)}});
    let mut task = submission(&body);
    task.pods.helper = Some(HelperProgram::Image("helper:1".to_owned()));
    let (volumes, images) = program(&task);
    assert!(
        matches!(volumes.as_slice(), [volume] if volume.empty_dir.is_some()),
        "{volumes:?}"
    );
    assert_eq!(images, ["helper:1"]);
    assert_eq!(secrets(&task, None), []);
    task.pods.helper = Some(HelperProgram::Executable("/bin/server".into()));
    let (volumes, images) = program(&task);
    let path = volumes[0].host_path.as_ref().map(|volume| volume.path.as_str());
    assert_eq!((volumes.len(), path, images.len()), (1, Some("/bin/server"), 0));
    let (volumes, images) = program(&fetching(&body, from_server()));
    assert_eq!((volumes.len(), images.len()), (1, 1), "it fetches and copies");
    let mut without = submission(&json!({"run": "true"}));
    without.pods.helper = Some(HelperProgram::Image("helper:1".to_owned()));
    assert_eq!(program(&without), (Vec::new(), Vec::new()));
}
