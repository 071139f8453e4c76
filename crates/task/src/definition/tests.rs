//! Tests of which definitions are accepted, how they are interpreted, and which are refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::TaskDefinition;

fn parse(body: &Value) -> TaskDefinition {
    TaskDefinition::parse(body, 100).unwrap_or_else(|errors| panic!("{body}: {errors:?}"))
}

/// The field and the type of each error.
fn faults(body: &Value) -> Vec<String> {
    let Err(errors) = TaskDefinition::parse(body, 100) else {
        return Vec::new();
    };
    errors
        .iter()
        .map(|error| {
            let path = serde_json::to_value(&error.loc).unwrap();
            let path: Vec<String> = path
                .as_array()
                .unwrap()
                .iter()
                .skip(1)
                .map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned))
                .collect();
            format!("{} {}", path.join("."), error.kind)
        })
        .collect()
}

#[test]
fn a_repository_is_not_cloned_into_a_volume() {
    let at = |path: &str| {
        let body = json!({"run": "true", "workdir": {"url": "https://h/r"}, "volumes": {path: "data"}});
        TaskDefinition::parse(&body, 100).map_err(|errors| errors[0].msg.clone())
    };
    for path in ["/sky_workdir", "/sky_workdir/data", "//./sky_workdir/x"] {
        let error = at(path).unwrap_err();
        assert!(error.contains("could replace what is in the volume"), "{error}");
    }
    assert!(at("/data/sky_workdir").is_ok());
}

#[test]
fn a_volume_is_not_in_the_place_of_the_files() {
    let with = |key: &str, value: Value, path: &str| {
        let body = json!({"run": "true", key: value, "volumes": {path: "data"}});
        TaskDefinition::parse(&body, 100).map_err(|errors| errors[0].msg.clone())
    };
    let files = |path: &str| with("files", json!({".": "0".repeat(64)}), path);
    for error in [files("/sky_workdir"), files("//sky_workdir/./")] {
        assert!(error.unwrap_err().contains("mount the volume elsewhere"));
    }
    let elsewhere = with("files", json!({"/opt/code": "0".repeat(64)}), "/sky_workdir");
    assert!(files("/sky_workdir/data").is_ok() && elsewhere.is_ok());
}

#[test]
fn run_alone_is_a_task_of_one_node() {
    let task = parse(&json!({"run": "true"}));
    assert_eq!((task.num_nodes, task.run.as_str(), task.name), (1, "true", None));
}

#[test]
fn nulls_are_absent() {
    let task = parse(&json!({
        "run": "true", "name": null, "resources": null, "envs": null, "volumes": null,
        "setup": null, "workdir": null, "file_mounts": null,
    }));
    assert_eq!(task, parse(&json!({"run": "true"})));
}

#[test]
fn numbers_are_taken_where_skypilot_takes_them() {
    let task = parse(&json!({
        "run": "true",
        "resources": {"cpus": 4, "memory": 16, "accelerators": {"H100": 8}},
        "envs": {"E": 10, "F": 0.5, "G": true},
    }));
    assert_eq!(task.resources.cpus.as_ref().unwrap().as_str(), "4");
    assert_eq!(task.resources.memory.as_ref().unwrap().as_str(), "16Gi");
    assert_eq!(task.resources.gpus(), 8);
    let envs: Vec<&str> = task.envs.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(envs, ["10", "0.5", "True"]);
}

#[test]
fn accelerators_are_counted() {
    for (input, count) in [
        (json!("1"), 1),
        (json!("V100"), 1),
        (json!("V100:2"), 2),
        (json!("V100:0.5"), 1),
        (json!({"V100": null}), 1),
    ] {
        assert_eq!(
            parse(&json!({"run": "x", "resources": {"accelerators": input}}))
                .resources
                .gpus(),
            count,
            "{input}"
        );
    }
}

#[test]
fn a_mistake_is_reported_with_its_path() {
    for (body, expected) in [
        (json!({"run": "x", "name": "my task"}), "name value_error"),
        (
            json!({"run": "x", "resources": {"cpus": "lots"}}),
            "resources.cpus value_error",
        ),
        (
            json!({"run": "x", "resources": {"memory": "0"}}),
            "resources.memory value_error",
        ),
        (
            json!({"run": "x", "resources": {"accelerators": "V100:x"}}),
            "resources.accelerators value_error",
        ),
        (
            json!({"run": "x", "resources": {"accelerators": "0"}}),
            "resources.accelerators value_error",
        ),
        (
            json!({"run": "x", "resources": {"image_id": "not an image"}}),
            "resources.image_id value_error",
        ),
        (
            json!({"run": "x", "resources": {"ports": [0]}}),
            "resources.ports.0 value_error",
        ),
        (
            json!({"run": "x", "resources": {"gpu": 1}}),
            "resources.gpu extra_forbidden",
        ),
        (json!({"run": "x", "envs": {"1A": "x"}}), "envs.1A value_error"),
        (json!({"run": "x", "envs": {"A": "\0"}}), "envs.A value_error"),
        (json!({"run": "x", "envs": {"A": null}}), "envs.A string_type"),
        (
            json!({"run": "x", "envs": {"A": "x".repeat(130_001)}}),
            "envs.A value_error",
        ),
        (
            json!({"run": "x", "volumes": {"data": "v"}}),
            "volumes.data value_error",
        ),
        (json!({"run": "x", "volumes": {"/": "v"}}), "volumes./ value_error"),
        (
            json!({"run": "x", "volumes": {"/a/../b": "v"}}),
            "volumes./a/../b value_error",
        ),
        (
            json!({"run": "x", "volumes": {"/a:b": "v"}}),
            "volumes./a:b value_error",
        ),
        (json!({"run": "\0"}), "run value_error"),
        (json!({"run": "x".repeat(500_001)}), "run value_error"),
        (json!({"run": "x", "setup": "x".repeat(500_001)}), "setup value_error"),
        (json!({"run": "x", "envs": variables(8)}), "envs value_error"),
        (json!({"run": "x", "workdir": ""}), "workdir value_error"),
        (json!({"run": "x", "num_nodes": 101}), "num_nodes less_than_equal"),
        (json!({"run": "x", "nmae": 1}), "nmae extra_forbidden"),
    ] {
        assert_eq!(faults(&body), [expected], "{body:.200}");
    }
}

fn variables(count: usize) -> Value {
    (0..count)
        .map(|index| (format!("V{index}"), Value::from("x".repeat(130_000))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn the_limit_of_nodes_is_not_reported_beside_other_errors() {
    assert_eq!(faults(&json!({"run": 1, "num_nodes": 1e30})), ["run string_type"]);
}

#[test]
fn what_has_no_effect_is_said() {
    let task = parse(&json!({
        "run": "x", "file_mounts": {"/a": "b"},
        "resources": {"use_spot": true, "disk_size": 10, "ports": "8080-8090"},
    }));
    insta::assert_json_snapshot!(task.warnings, @r#"
    [
      "local files of `file_mounts` are copied only by the CLI; upload them, and use `files`"
    ]
    "#);
    let task = parse(&json!({"run": "x", "file_mounts": {}}));
    assert!(task.warnings.is_empty(), "{:?}", task.warnings);
}

#[test]
fn what_asks_for_nothing_is_accepted_silently() {
    for value in [
        json!({"secrets": []}),
        json!({"managed_secrets": []}),
        json!({"service": null}),
        json!({"config": {"kubernetes": {"enable_docker": false, "dws": {"enabled": false}, "quota": null}}}),
        json!({"config": {"kubernetes": {"enable_docker": null, "dws": null}}}),
    ] {
        let mut body = value;
        body["run"] = json!("x");
        assert_eq!(parse(&body).warnings, [] as [&str; 0], "{body}");
    }
    for kubernetes in [json!({"enable_docker": true}), json!({"dws": {"enabled": true}})] {
        assert_eq!(
            faults(&json!({"run": "x", "config": {"kubernetes": kubernetes}})).len(),
            1
        );
    }
    assert_eq!(
        faults(&json!({"run": "x", "unknown": null})),
        ["unknown extra_forbidden"]
    );
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "name",
            "workdir",
            "num_nodes",
            "resources",
            "envs",
            "file_mounts",
            "volumes",
            "setup",
            "run",
            "cpus",
            "memory",
            "accelerators",
            "image_id",
            "ports",
            "disk_size",
            "use_spot",
        ])
        .prop_map(str::to_owned),
        "[A-Z/a-z_]{0,8}",
    ]
}

proptest! {
    #[test]
    fn any_json_is_a_task_or_has_errors(body in json_value()) {
        if let Err(errors) = TaskDefinition::parse(&body, 100) {
            prop_assert!(!errors.is_empty());
        }
    }
}

#[test]
fn a_body_with_very_many_mistakes_is_told_some_of_them_and_repeats_little_of_it() {
    let wrong: serde_json::Map<String, Value> = (0..5000).map(|index| (format!("key{index}"), json!([]))).collect();
    let long = "x".repeat(1_000_000);
    let mut many = json!({"run": [&long], "num_nodes": {&long: &long}, "name": &long, "resources": wrong.clone()});
    many.as_object_mut().unwrap().extend(wrong.clone());
    for body in [
        many,
        json!({"run": "true", "envs": wrong}),
        json!({"run": "true", "envs": {&long: "a", "B": &long}}),
        json!({"run": "true", "resources": {"image_id": &long, "accelerators": &long}}),
        json!([long]),
    ] {
        let errors = TaskDefinition::parse(&body, 100).unwrap_err();
        let told = serde_json::to_string(&errors).unwrap();
        assert!(
            (1..=crate::validation::MAX_ERRORS).contains(&errors.len()),
            "{}",
            errors.len()
        );
        assert!(told.len() < 500_000, "{}", told.len());
    }
}

#[test]
fn what_is_counted_is_counted_before_its_contents_are_looked_at() {
    let map = |count: u32, value: Value| -> Value { (0..count).map(|at| (format!("/d{at}"), value.clone())).collect() };
    let codes = |count: usize| json!({"job_recovery": {"recover_on_exit_codes": vec![-1; count]}});
    for (body, fault) in [
        (
            json!({"run": "true", "volumes": map(101, json!(1))}),
            "volumes too_long",
        ),
        (json!({"run": "true", "envs": map(10_001, json!([]))}), "envs too_long"),
        (
            json!({"run": "true", "file_mounts": map(1001, json!([]))}),
            "file_mounts too_long",
        ),
        (
            json!({"run": "true", "resources": codes(200_000)}),
            "resources.job_recovery.recover_on_exit_codes too_long",
        ),
        (
            json!({"run": "true", "resources": {"ports": vec![-1; 1000]}}),
            "resources.ports too_long",
        ),
    ] {
        assert_eq!(faults(&body), [fault]);
    }
}

#[test]
fn a_volume_is_not_mounted_over_what_a_container_needs() {
    for path in [
        "/proc",
        "/proc/",
        "/proc/self",
        "//proc",
        "/./sys",
        "/dev",
        "/dev/termination-log",
        "/etc/k8s-cli",
    ] {
        assert_eq!(
            faults(&json!({"run": "true", "volumes": {path: "v"}})),
            [format!("volumes.{path} value_error")]
        );
    }
    for path in ["/process", "/data/proc", "/dev/shm", "/etc/app", "/srv"] {
        assert_eq!(
            faults(&json!({"run": "true", "volumes": {path: "v"}})),
            [] as [&str; 0],
            "{path}"
        );
    }
}
