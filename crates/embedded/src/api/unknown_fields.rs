//! Finds fields that the API types don't know, for field validation.

use serde_json::Value;

/// Paths of fields in `sent` that are not in `known`.
pub(crate) fn unknown_fields(sent: &Value, known: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_unknown(sent, known, "", &mut found);
    found
}

fn collect_unknown(sent: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (sent, known) {
        (Value::Object(sent), Value::Object(known)) => {
            for (key, value) in sent {
                let here = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match known.get(key) {
                    Some(below) => collect_unknown(value, below, &here, found),
                    None if value.is_null() || here == "status" || is_converted(&here) => {}
                    None => found.push(here),
                }
            }
        }
        (Value::Array(sent), Value::Array(known)) => {
            for (index, (sent, known)) in sent.iter().zip(known).enumerate() {
                collect_unknown(sent, known, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Known fields that are not stored as sent.
fn is_converted(path: &str) -> bool {
    matches!(
        path,
        "stringData" | "metadata.generateName" | "metadata.selfLink" | "metadata.managedFields"
    )
}
