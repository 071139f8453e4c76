//! The definition of a task, for its record.

use task::TaskDefinition;

use super::submission::Submission;
use crate::cache::MAX_DEFINITION;
use crate::labels;

/// How much of a script is kept of a definition that is too long, in bytes.
const MAX_SCRIPT: usize = 8 * 1024;

/// The annotation with the definition of an archived task, for the object that stands for it: its owner, or else its
/// only Job.
pub(super) fn annotation(submission: &Submission) -> Option<(String, String)> {
    if !submission.is_archived {
        return None;
    }
    let definition = encode(&submission.definition)?;
    Some((labels::DEFINITION.to_owned(), definition))
}

/// The definition as JSON. If it is too long, the scripts are shortened; if that does not suffice, there is none.
fn encode(definition: &TaskDefinition) -> Option<String> {
    let fits = |json: &String| json.len() <= MAX_DEFINITION;
    let json = serde_json::to_string(definition).ok()?;
    if fits(&json) {
        return Some(json);
    }
    let shortened = TaskDefinition {
        setup: definition.setup.as_deref().map(shorten),
        run: shorten(&definition.run),
        ..definition.clone()
    };
    serde_json::to_string(&shortened).ok().filter(fits)
}

fn shorten(script: &str) -> String {
    if script.len() <= MAX_SCRIPT {
        return script.to_owned();
    }
    let left_out = script.len() - script.floor_char_boundary(MAX_SCRIPT);
    let kept = &script[..script.floor_char_boundary(MAX_SCRIPT)];
    format!("{kept}\n# {left_out} more bytes are not kept in the record.\n")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use task::TaskDefinition;
    use task::definition::MAX_NODES;

    use super::encode;

    fn definition(body: &Value) -> TaskDefinition {
        TaskDefinition::parse(body, MAX_NODES).unwrap()
    }

    #[test]
    fn a_long_script_is_shortened_and_the_value_of_a_secret_is_never_there() {
        let body = json!({"run": "\u{fc}".repeat(40_000), "secrets": {"TOKEN": "canary"}, "num_nodes": 2});
        let json = encode(&definition(&body)).unwrap();
        let kept: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (kept["num_nodes"].as_u64(), kept["secrets"][0][0].as_str()),
            (Some(2), Some("TOKEN"))
        );
        assert!(
            kept["run"]
                .as_str()
                .unwrap()
                .ends_with("# 71808 more bytes are not kept in the record.\n")
        );
        assert!(!json.contains("canary"));
    }

    #[test]
    fn a_definition_of_many_variables_is_left_out() {
        let envs: serde_json::Map<String, Value> =
            (0..10).map(|i| (format!("V{i}"), "x".repeat(5000).into())).collect();
        assert_eq!(encode(&definition(&json!({"run": "true", "envs": envs}))), None);
    }
}
