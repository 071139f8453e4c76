//! Compares the tables with the parsers and with the page of the docs.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Key, SECTIONS, Section, Support, find};
use crate::TaskDefinition;

/// A task with this value at the path of a section, or of one of its keys.
fn task_with(path: &str, value: Value) -> Value {
    let mut body = value;
    for step in path.split('.').rev().filter(|step| !step.is_empty()) {
        if step == "hooks" {
            // The section describes the items of a list.
            body = json!([body]);
        }
        body = Value::Object(Map::from_iter([(step.to_owned(), body)]));
    }
    if let Some(fields) = body.as_object_mut() {
        fields.entry("run").or_insert(json!("true"));
    }
    body
}

/// The messages of the errors for a key with a value that no key accepts.
fn errors(section: &Section, key: &str) -> Vec<String> {
    let body = task_with(&section.path_of(key), json!([[[]]]));
    let errors = TaskDefinition::parse(&body, 1).err().unwrap_or_default();
    errors.into_iter().map(|error| error.msg).collect()
}

#[test]
fn the_parsers_know_the_keys_of_the_tables() {
    for section in SECTIONS {
        for key in section.keys {
            let errors = errors(section, key.name);
            let is_unknown = errors.iter().any(|error| error.starts_with("Extra inputs"));
            match key.support {
                Support::Rejected { reason, .. } => assert!(errors[0].ends_with(reason), "{}: {errors:?}", key.name),
                _ => assert!(!is_unknown, "{}: {errors:?}", key.name),
            }
        }
        let mut unknown = errors(section, "surely_unknown");
        unknown.retain(|error| error != "Field required");
        assert_eq!(unknown, ["Extra inputs are not permitted"], "{}", section.path);
    }
}

#[test]
fn null_is_absent_for_every_key_without_effect() {
    for section in SECTIONS {
        for key in section
            .keys
            .iter()
            .filter(|key| matches!(key.support, Support::Ignored { .. }))
        {
            let task = TaskDefinition::parse(&task_with(&section.path_of(key.name), Value::Null), 1).unwrap();
            assert_eq!(task.warnings, [] as [&str; 0], "{}", key.name);
        }
    }
}

#[test]
fn a_path_leads_to_a_section_or_a_key() {
    assert_eq!(find("").unwrap().0.path, "");
    assert!(find("resources").unwrap().1.is_none());
    assert_eq!(find("resources.cpus").unwrap().1.unwrap().name, "cpus");
    assert_eq!(find("run").unwrap().1.unwrap().name, "run");
    assert!(find("resources.nothing").is_none() && find("nothing.cpus").is_none());
}

/// A row of the table of a section.
fn row(key: &Key) -> String {
    let examples: Vec<String> = key.examples.iter().map(|example| format!("`{example}`")).collect();
    let summary = match key.support {
        Support::Full => key.summary.to_owned(),
        Support::Ignored { reason, .. } => format!("{} No effect: {reason}.", key.summary),
        Support::Rejected { reason, .. } => format!("{} Rejected: {reason}.", key.summary),
    };
    format!("| `{}` | {summary} | {} |\n", key.name, examples.join(", "))
}

fn page() -> String {
    let mut page =
        "# The task file\n\nEvery key of SkyPilot's task file, and what it does here. A key without effect is \
                    accepted with a warning; a key\nthat would change what runs is rejected. `k8s-cli explain` prints \
                    the same.\n"
            .to_owned();
    for section in SECTIONS {
        let title = if section.path.is_empty() {
            "The file".to_owned()
        } else {
            format!("`{}`", section.path)
        };
        page.push_str(&format!(
            "\n## {title}\n\n| key | meaning | examples |\n|---|---|---|\n"
        ));
        for supported in [true, false] {
            let is_listed = |key: &&Key| matches!(key.support, Support::Full) == supported;
            page.extend(section.keys.iter().filter(is_listed).map(row));
        }
    }
    page
}

/// `INSTA_UPDATE=always` updates the page, like snapshots.
#[test]
fn the_page_of_the_docs_is_made_from_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/TASK_FILE.md");
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        written,
        page(),
        "update `docs/TASK_FILE.md` with `INSTA_UPDATE=always cargo test -p task`"
    );
}
