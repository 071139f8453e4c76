//! Parses `outputs`: what a task wrote that is kept when its nodes end.

use serde::Serialize;
use serde_json::Value;

use super::scripts::MAX_PATH_BYTES;
use crate::validation::{Validator, coerce};

/// The maximum number of outputs of a task.
pub(super) const MAX_OUTPUTS: usize = 20;

/// The maximum length of the name of an output, in bytes.
pub(super) const MAX_OUTPUT_NAME_BYTES: usize = 255;

/// The pattern of the name of an output, for the OpenAPI document; [`parse_output_name`] implements the rule.
pub(super) const OUTPUT_NAME_PATTERN: &str = r"^(\./)?([^~./\x00-\x1f\x7f-\x9f]|\.[^./\x00-\x1f\x7f-\x9f]|\.\.[^/\x00-\x1f\x7f-\x9f])[^/\x00-\x1f\x7f-\x9f]*(/([^./\x00-\x1f\x7f-\x9f]|\.[^./\x00-\x1f\x7f-\x9f]|\.\.[^/\x00-\x1f\x7f-\x9f])[^/\x00-\x1f\x7f-\x9f]*)*/?$";

/// A file or folder of the first node that is kept when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Output {
    /// Where it is written when it is downloaded: a relative path without `.` and `..`.
    pub name: String,
    /// Its path on the node, which bash expands: absolute, below `~`, or relative to the directory in which `run` starts.
    pub path: String,
}

impl Output {
    /// What it takes in a pod, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.path.len()
    }
}

/// Reads where an output is written: a relative path.
///
/// # Errors
/// Why it is not one.
pub fn parse_output_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("./").unwrap_or(text);
    let name = name.strip_suffix('/').unwrap_or(name);
    if name.len() > MAX_OUTPUT_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(format!(
            "a path for an output must be at most {MAX_OUTPUT_NAME_BYTES} bytes long, without control characters"
        ));
    }
    if name.starts_with(['/', '~']) {
        return Err(format!(
            "`{text}` must be a relative path; `k8s-cli jobs outputs ID DIR` writes the output to DIR"
        ));
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!(
            "`{text}` must name the file or folder, e.g., `./results`, without `.` and `..`"
        ));
    }
    Ok(name.to_owned())
}

pub(super) fn parse_outputs(value: &Value, validator: &mut Validator) -> Option<Vec<Output>> {
    let parsed = coerce::map(value, validator, MAX_OUTPUTS, |name, value, validator| {
        if value.is_number() {
            validator.warn(format!(
                "the number in `outputs.{name}` has no effect: the size only informs SkyPilot's optimizer; to keep what \
                 a task writes, use a path"
            ));
            return Some(None);
        }
        let name = match parse_output_name(name) {
            Ok(name) => name,
            Err(reason) => return validator.value_error(reason, value),
        };
        let path = coerce::string(value, validator)?;
        if path.is_empty() || path.len() > MAX_PATH_BYTES || path.chars().any(char::is_control) {
            return validator.value_error(
                format!("a path must be 1 to {MAX_PATH_BYTES} bytes long, without control characters"),
                value,
            );
        }
        Some(Some(Output { name, path }))
    })?;
    let outputs: Vec<Output> = parsed.into_iter().flatten().collect();
    match find_overlap(&outputs) {
        Some((one, other)) => validator.value_error(
            format!("the output `{other}` is the same as `{one}`, or in it; use different names"),
            value,
        ),
        None => Some(outputs),
    }
}

/// Two outputs of which one would be written into the other.
fn find_overlap(outputs: &[Output]) -> Option<(&str, &str)> {
    let is_in = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    names.sort_unstable();
    // A name with another one before it is sorted after it, but not always next to it: `a`, `a-b`, `a/c`.
    names.iter().enumerate().find_map(|(index, outer)| {
        let later = names[index + 1..].iter();
        let mut inner = later.filter(|inner| is_in(inner, outer));
        inner.next().map(|inner| (*outer, *inner))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Output, parse_output_name};
    use crate::TaskDefinition;
    use crate::definition::MAX_NODES;

    fn parse(outputs: &Value) -> Result<(Vec<Output>, Vec<String>), Vec<String>> {
        let parsed = TaskDefinition::parse(&json!({"run": "true", "outputs": outputs}), MAX_NODES);
        let parsed = parsed.map(|task| (task.outputs, task.warnings));
        parsed.map_err(|errors| errors.into_iter().map(|error| error.msg).collect())
    }

    #[test]
    fn an_output_has_a_relative_name_and_any_path() {
        let (outputs, warnings) = parse(&json!({"./results/": "out", "b/c": "~/x y"})).unwrap();
        let output = |name: &str, path: &str| Output {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(outputs, [output("results", "out"), output("b/c", "~/x y")]);
        assert!(warnings.is_empty());
        for name in [
            "", ".", "./", "..", "/a", "~/a", "a/../b", "a//b", "a\nb", "./../a", "a/.",
        ] {
            assert!(parse_output_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_estimated_size_of_skypilot_has_no_effect() {
        let (outputs, warnings) = parse(&json!({"s3://bucket/out": 10.5})).unwrap();
        assert!(outputs.is_empty());
        assert!(
            warnings[0].contains("the number in `outputs.s3://bucket/out` has no effect"),
            "{warnings:?}"
        );
    }

    #[test]
    fn outputs_do_not_overwrite_each_other() {
        assert!(parse(&json!({"a": "x", "a-b": "y", "ab": "z"})).is_ok());
        for outputs in [json!({"a": "x", "./a": "y"}), json!({"a": "x", "a-b": "y", "a/c": "z"})] {
            let errors = parse(&outputs).unwrap_err();
            assert!(errors[0].contains("is the same as `a`, or in it"), "{errors:?}");
        }
    }
}
