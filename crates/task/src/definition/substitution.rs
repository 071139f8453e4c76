//! Fills variables of `envs` into the keys of a task file where SkyPilot does: `volumes` and `file_mounts`.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The keys whose contents are filled in.
const FILLED_KEYS: [&str; 2] = ["volumes", "file_mounts"];

/// Fills in `$NAME` and `${NAME}`. Names that are not in `envs` stay as they are, as in SkyPilot.
pub(super) fn fill_variables(body: &Value) -> Cow<'_, Value> {
    let Some(envs) = body["envs"].as_object() else {
        return Cow::Borrowed(body);
    };
    let mut filled = Cow::Borrowed(body);
    for key in FILLED_KEYS {
        if has_dollar(&body[key]) {
            filled.to_mut()[key] = fill_value(&body[key], envs);
        }
    }
    filled
}

fn has_dollar(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('$'),
        Value::Array(items) => items.iter().any(has_dollar),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('$') || has_dollar(value)),
        _ => false,
    }
}

fn fill_value(value: &Value, envs: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => fill_text(text, envs).into(),
        Value::Array(items) => items.iter().map(|item| fill_value(item, envs)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(key, value)| (fill_text(key, envs), fill_value(value, envs)))
                .collect()
        }
        other => other.clone(),
    }
}

fn fill_text(text: &str, envs: &Map<String, Value>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (reference, name) = reference(rest);
        match envs.get(name) {
            Some(Value::String(value)) => filled.push_str(value),
            Some(Value::Number(value)) => filled.push_str(&value.to_string()),
            _ => filled.push_str(reference),
        }
        rest = &rest[reference.len()..];
    }
    filled + rest
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
}
