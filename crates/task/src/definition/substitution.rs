//! Fills variables of `envs` into the keys of a task file where SkyPilot does, `volumes`, `file_mounts`, and the repository
//! of `workdir`, and into `outputs`.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The keys whose contents are filled in.
const FILLED_KEYS: [&str; 4] = ["volumes", "file_mounts", "workdir", "outputs"];

/// Maximum number of bytes to fill in. A body of some megabytes could have a million references to a long variable.
const MAX_FILLED_BYTES: usize = 1 << 20;

/// Fills in `$NAME` and `${NAME}`. Names that are not in `envs` stay as they are, as in SkyPilot.
pub(super) fn fill_variables(body: &Value) -> Cow<'_, Value> {
    let Some(envs) = body["envs"].as_object() else {
        return Cow::Borrowed(body);
    };
    let mut variables = Variables {
        envs,
        budget: MAX_FILLED_BYTES,
    };
    let mut filled = Cow::Borrowed(body);
    for key in FILLED_KEYS {
        // The shell of the node expands a directory.
        let is_directory = key == "workdir" && body[key].is_string();
        if !is_directory && has_dollar(&body[key]) {
            filled.to_mut()[key] = variables.fill_value(&body[key]);
        }
    }
    filled
}

/// Fills in `$NAME` and `${NAME}` of the `envs` of a task in one text, as [`TaskDefinition::parse`] does in `volumes`,
/// `file_mounts`, and `outputs`.
///
/// [`TaskDefinition::parse`]: crate::TaskDefinition::parse
#[must_use]
pub fn fill_text(text: &str, body: &Value) -> String {
    let Some(envs) = body["envs"].as_object() else {
        return text.to_owned();
    };
    let budget = MAX_FILLED_BYTES;
    Variables { envs, budget }.fill_text(text)
}

fn has_dollar(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('$'),
        Value::Array(items) => items.iter().any(has_dollar),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('$') || has_dollar(value)),
        _ => false,
    }
}

/// The variables to fill in.
struct Variables<'a> {
    envs: &'a Map<String, Value>,
    /// How many more bytes may be filled in. References beyond it stay as they are.
    budget: usize,
}

impl Variables<'_> {
    fn fill_value(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.fill_text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter();
                let mut filled = Map::new();
                for (key, value) in fields {
                    let name = self.fill_text(key);
                    // A key that becomes equal to another one stays as it is, so that it is reported.
                    let name = if filled.contains_key(&name) { key.clone() } else { name };
                    filled.insert(name, self.fill_value(value));
                }
                Value::Object(filled)
            }
            other => other.clone(),
        }
    }

    fn fill_text(&mut self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            filled.push_str(&rest[..at]);
            let (reference, name) = reference(&rest[at..]);
            match self.value(name) {
                Some(value) => filled.push_str(&value),
                None => filled.push_str(reference),
            }
            rest = &rest[at + reference.len()..];
        }
        filled + rest
    }

    /// The value of a variable, unless the budget is used up.
    fn value(&mut self, name: &str) -> Option<Cow<'_, str>> {
        let value = match self.envs.get(name)? {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Number(number) => Cow::Owned(number.to_string()),
            // As in the environment of the task.
            Value::Bool(flag) => Cow::Borrowed(if *flag { "True" } else { "False" }),
            _ => return None,
        };
        self.budget = self.budget.checked_sub(value.len())?;
        Some(value)
    }
}

/// The reference at the start of a text that begins with `$`, and the name in it, which may be empty.
fn reference(text: &str) -> (&str, &str) {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let braced = text.strip_prefix("${").and_then(|rest| rest.split_once('}'));
    if let Some((name, _)) = braced
        && name.chars().all(is_part)
    {
        return (&text[..name.len() + 3], name);
    }
    let name_end = text[1..]
        .find(|character| !is_part(character))
        .map_or(text.len(), |end| end + 1);
    (&text[..name_end], &text[1..name_end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fill_variables;

    #[test]
    fn variables_of_the_task_are_filled_in_and_others_stay() {
        let body = json!({
            "envs": {"BUCKET": "data", "N": 3, "NONE": null},
            "volumes": {"/${BUCKET}/$N": "$BUCKET-x", "/a": {"name": "${BUCKET}", "sub_path": "$OTHER/${X:-1}$"}},
            "run": "echo $BUCKET",
        });
        let filled = fill_variables(&body);
        assert_eq!(
            filled["volumes"],
            json!({"/data/3": "data-x", "/a": {"name": "data", "sub_path": "$OTHER/${X:-1}$"}})
        );
        assert_eq!(filled["run"], "echo $BUCKET");
    }

    #[test]
    fn a_long_variable_is_not_filled_in_a_million_times() {
        let body = json!({"envs": {"A": "x".repeat(100_000)}, "volumes": {"/a": "$A".repeat(1_000_000)}});
        let filled = fill_variables(&body);
        assert!(filled["volumes"]["/a"].as_str().unwrap().len() < 4_000_000);
    }
}
