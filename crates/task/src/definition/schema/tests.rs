//! The schemas and the parsers accept the same tasks and volumes.

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::string::string_regex;
use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

use super::{group_schema, resources_schema, task_schema, volume_schema};
use crate::schema_check::Schemas;
use crate::volume::AccessMode;
use crate::{ErrorDetail, GroupDefinition, TaskDefinition, VolumeDefinition};

static TASK: LazyLock<Schemas> = LazyLock::new(Schemas::of::<TaskDefinition>);
static VOLUME: LazyLock<Schemas> = LazyLock::new(|| Schemas::of::<VolumeDefinition>().and::<AccessMode>());

fn parse_task(body: &Value) -> Result<(), Vec<ErrorDetail>> {
    TaskDefinition::parse(body, 1000).map(drop)
}

fn parse_volume(body: &Value) -> Result<(), Vec<ErrorDetail>> {
    VolumeDefinition::parse(body).map(drop)
}

/// Whether the parser knows a property. Its errors suggest the nearest known key, so parsing a slightly misspelled
/// key reveals whether the property is known.
fn knows(errors: &[ErrorDetail], property: &str) -> bool {
    errors.iter().any(|error| error.msg.contains(&format!("`{property}`")))
}

#[test]
fn the_schemas_are_valid() {
    let _ = (
        TaskDefinition::schema(),
        GroupDefinition::schema(),
        VolumeDefinition::schema(),
    );
}

#[test]
fn every_property_of_the_schema_is_a_key_of_the_parser() {
    let keys = |schema: Value| {
        schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    for key in keys(task_schema()) {
        let errors = TaskDefinition::parse(&json!({ format!("{key}_"): 1 }), 1).unwrap_err();
        assert!(knows(&errors, &key), "{key}");
    }
    for key in keys(resources_schema()) {
        let errors = TaskDefinition::parse(&json!({ "resources": { format!("{key}_"): 1 } }), 1).unwrap_err();
        assert!(knows(&errors, &key), "{key}");
    }
    for key in keys(group_schema()) {
        let errors = GroupDefinition::parse(&json!({ format!("{key}_"): 1 }), 1).unwrap_err();
        assert!(knows(&errors, &key), "{key}");
    }
    for key in keys(volume_schema()) {
        let errors = VolumeDefinition::parse(&json!({ format!("{key}_"): 1 })).unwrap_err();
        assert!(knows(&errors, &key), "{key}");
    }
}

#[test]
fn every_notation_of_the_parser_is_in_the_schema() {
    let resources = |name: &str, value: Value| json!({"run": "true", "resources": {name: value}});
    let mut tasks = vec![
        json!({"run": ""}),
        json!({"run": "true", "envs": {"A": 1, "_b": true, "C": "x", "D": 1.5}}),
        json!({"run": "true", "volumes": {"/a b/é/": "v", "//x": "v", "/dev/shm": "v", "/.hidden": "v"}}),
        json!({"run": "true", "config": {"kubernetes": {"provision_timeout": 0, "kueue": {"local_queue_name": "q"}}}}),
        json!({"run": "true", "file_mounts": {"/a": ""}}),
        json!({"run": "true", "workdir": "~/a b"}),
        resources("instance_type", json!("0.5CPU--1GB--L4:2")),
        resources("image_id", json!("docker:python:3.13-slim")),
    ];
    let durations = ["90s", "1h30m", "2d", "1 hour, 30 minutes", "PT1H", "1.5h"];
    tasks.extend(durations.map(|text| json!({"run": "true", "max_duration": text})));
    for (name, values) in [
        ("cpus", json!([4, 0.5, "0.5", "500m", "4+", "4.5+", "+4"])),
        ("memory", json!([16, 0.5, "1.5Gi", "16G", "16+", "16gb", "100000"])),
        (
            "accelerators",
            json!(["H100", "H100:8", "H100:0.5", {"H100": 8}, {"H100": null}, "1", ["A100", "H100:2"], {"A100:1": null, "L4": 1}]),
        ),
        ("use_spot", json!([true, 0, "TRUE", "yes"])),
        ("any_of", json!([[{"cpus": 1}, {"infra": "aws"}], [{}]])),
        ("ordered", json!([[{"use_spot": true}, {"use_spot": false}]])),
        ("disk_size", json!(["1TB", "256", 256, "256GB", true])),
        ("ports", json!(["8080-8090", "10000", 8080, [1, "2-3"], [], " 80 "])),
        (
            "job_recovery",
            json!(["failover", "None", {"strategy": "EAGER_NEXT_region", "recover_on_exit_codes": 1}, {}]),
        ),
    ] {
        tasks.extend(
            values
                .as_array()
                .unwrap()
                .iter()
                .map(|value| resources(name, value.clone())),
        );
    }
    for task in &tasks {
        assert_eq!((parse_task(task), TASK.check(task)), (Ok(()), Ok(())), "{task}");
    }
    for size in ["1Ti", "1.5Gi", "500M", "1TB", "100000", "10gb", "1.", ".5", "+1", "1n"] {
        let volume = json!({"name": "v", "size": size, "access_modes": ["ReadWriteMany", "ReadWriteMany"]});
        assert_eq!(
            (parse_volume(&volume), VOLUME.check(&volume)),
            (Ok(()), Ok(())),
            "{volume}"
        );
    }
}

/// Text that often is a value of some field.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,6}",
        "[a-z0-9.:/_+-]{0,12}",
        "/{0,2}[a-zA-Z0-9 .:/_é-]{0,12}",
        "(docker:)?[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,10}",
        "[+-]?[0-9]{0,4}\\.?[0-9]{0,2}[A-Za-z]{0,2}\\+?",
    ]
}

/// Definitions of tasks with one text in every place for text.
fn tasks_with(text: &str) -> [Value; 15] {
    [
        json!({"run": "true", "resources": {"labels": {text: text}}}),
        json!({"run": "true", "resources": {"infra": text}}),
        json!({"run": "true", "config": {"kubernetes": {"custom_metadata": {"annotations": {text: text}}}}}),
        json!({"run": text}),
        json!({"run": "true", "name": text}),
        json!({"run": "true", "workdir": text}),
        json!({"run": "true", "setup": text}),
        json!({"run": "true", "max_duration": text}),
        json!({"run": "true", "envs": {text: text}}),
        json!({"run": "true", "secrets": {text: text}}),
        json!({"run": "true", "volumes": {text: "v"}}),
        json!({"run": "true", "volumes": {"/v": text}}),
        json!({"run": "true", "file_mounts": {text: text}}),
        json!({"run": "true", "resources": {"image_id": text}}),
        json!({"run": "true", "config": {"kubernetes": {"kueue": {"local_queue_name": text}}}}),
    ]
}

/// Definitions of tasks with one number in every place for numbers.
fn tasks_with_number(number: i64) -> [Value; 2] {
    [
        json!({"run": "true", "num_nodes": number}),
        json!({"run": "true", "config": {"kubernetes": {"provision_timeout": number}}}),
    ]
}

fn volumes_with(text: &str) -> [Value; 4] {
    [
        json!({"name": text, "size": "1"}),
        json!({"name": "v", "size": text}),
        json!({"name": "v", "size": "1", "storage_class": text}),
        json!({"name": "v", "size": "1", "access_modes": [text]}),
    ]
}

/// Values that a schema accepts. A text or a value with several notations is one of the examples, if there are any.
fn values(schemas: &'static Schemas, schema: &'static Value) -> BoxedStrategy<Value> {
    let schema = schemas.resolve(schema);
    let number = |key: &str| schema[key].as_i64();
    let known = schema["enum"].as_array().or_else(|| schema["examples"].as_array());
    // A list may be null.
    let kind = schema["type"].as_array().map_or(&schema["type"], |kinds| &kinds[0]);
    match (kind.as_str(), known) {
        (None | Some("string"), Some(known)) => prop::sample::select(known.clone()).boxed(),
        // Without examples, only null is known to be accepted.
        (None, None) => Just(Value::Null).boxed(),
        (Some("string"), None) => strings(schema).prop_map(Value::from).boxed(),
        (Some("integer"), _) => (number("minimum").unwrap()..=number("maximum").unwrap())
            .prop_map(Value::from)
            .boxed(),
        (Some("array"), _) => {
            let counts = 1..=usize::try_from(number("maxItems").unwrap()).unwrap();
            prop::collection::vec(values(schemas, &schema["items"]), counts)
                .prop_map(Value::from)
                .boxed()
        }
        (Some("object"), _) => objects(schemas, schema).prop_map(Value::Object).boxed(),
        other => panic!("unexpected type: {other:?}"),
    }
}

fn objects(schemas: &'static Schemas, schema: &'static Value) -> BoxedStrategy<Map<String, Value>> {
    let Some(properties) = schema["properties"].as_object() else {
        let names = match schema.get("propertyNames") {
            Some(names) => strings(names),
            None => any::<String>().boxed(),
        };
        let entry = (names, values(schemas, &schema["additionalProperties"]));
        return prop::collection::vec(entry, 0..4)
            .prop_map(|entries| entries.into_iter().collect())
            .boxed();
    };
    let is_required = |key: &String| {
        schema["required"]
            .as_array()
            .is_some_and(|keys| keys.contains(&json!(key)))
    };
    let fields: Vec<_> = properties
        .iter()
        .map(|(key, schema)| {
            let field = (Just(key.clone()), values(schemas, schema));
            if is_required(key) {
                return field.prop_map(Some).boxed();
            }
            prop::option::of(field).boxed()
        })
        .collect();
    fields.prop_map(|fields| fields.into_iter().flatten().collect()).boxed()
}

fn strings(schema: &'static Value) -> BoxedStrategy<String> {
    let lengths = schema["minLength"].as_u64().unwrap_or(0)..=schema["maxLength"].as_u64().unwrap_or(u64::MAX);
    let texts = match schema["pattern"].as_str() {
        // The strategy has no anchors: it always generates whole texts.
        Some(pattern) => string_regex(pattern.trim_matches(['^', '$'])).unwrap().boxed(),
        None => any::<String>().boxed(),
    };
    texts
        .prop_filter("length", move |text| lengths.contains(&(text.chars().count() as u64)))
        .boxed()
}

/// Whether an error is about a rule that only the descriptions say.
fn is_in_a_description(error: &ErrorDetail) -> bool {
    let rules = [
        "must not be in a reserved directory",
        "must not contain `..`",
        "the mount path must",
        "the mount path must not",
        "is reserved; choose another one",
        "invalid key `",
        "must be at most 2000 bytes",
        "invalid image `docker:",
        "is also in `envs`",
        "alternatives are already in",
        "`ReadWriteOncePod` cannot be combined",
        "must have the name of its path",
        "two file sets have the same path",
        "and in a file set",
        "a path for an output must be at most 255 bytes",
        "or in it; use different names",
        "a path must be 1 to",
        "must not end with `/`",
        "two mounts have the same path",
        "and in a copy",
        "could replace what is in the volume",
    ];
    rules.iter().any(|rule| error.msg.contains(rule))
}

proptest! {
    #[test]
    fn what_the_parser_accepts_matches_the_schema(text in text(), number in -3_i64..1500) {
        for task in tasks_with(&text).into_iter().chain(tasks_with_number(number)) {
            prop_assert!(parse_task(&task).is_err() || TASK.check(&task).is_ok(), "{task}: {:?}", TASK.check(&task));
        }
        for volume in volumes_with(&text) {
            let checked = VOLUME.check(&volume);
            prop_assert!(parse_volume(&volume).is_err() || checked.is_ok(), "{volume}: {checked:?}");
        }
    }

    #[test]
    fn what_matches_the_schema_of_a_task_is_accepted(task in values(&TASK, TASK.root())) {
        prop_assert_eq!(TASK.check(&task), Ok(()));
        let errors = parse_task(&task).err().unwrap_or_default();
        let unexpected: Vec<_> = errors.iter().filter(|error| !is_in_a_description(error)).collect();
        prop_assert!(unexpected.is_empty(), "{:?}", unexpected);
    }

    #[test]
    fn what_matches_the_schema_of_a_volume_is_accepted(volume in values(&VOLUME, VOLUME.root())) {
        prop_assert_eq!(VOLUME.check(&volume), Ok(()));
        let errors = parse_volume(&volume).err().unwrap_or_default();
        let unexpected: Vec<_> = errors.iter().filter(|error| !is_in_a_description(error)).collect();
        prop_assert!(unexpected.is_empty(), "{:?}", unexpected);
    }
}
