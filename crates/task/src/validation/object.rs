//! Parsers for objects, maps, and lists. They report errors in the order of declaration, and refuse unknown keys.

use serde_json::{Map, Value, json};

use super::{Cursor, Location};

/// The minimum similarity (Jaro-Winkler, 0 to 1) of an unknown key to a known one that is suggested for it.
const NEAREST_KEY_SIMILARITY: f64 = 0.8;

/// An object whose fields are being parsed. Errors are reported in the order in which fields are parsed.
#[derive(Debug)]
pub struct Object<'a, 'c> {
    value: &'a Value,
    fields: &'a Map<String, Value>,
    cursor: &'c mut Cursor,
    known: Vec<&'static str>,
}

impl<'a, 'c> Object<'a, 'c> {
    /// Starts parsing `value`, or reports that it is not an object.
    pub fn open(value: &'a Value, cursor: &'c mut Cursor) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                value,
                fields,
                cursor,
                known: Vec::new(),
            }),
            _ => cursor.report(
                "model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from",
                value,
            ),
        }
    }

    /// Parses a required field.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        parser: impl FnOnce(&Value, &mut Cursor) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        match self.fields.get(key) {
            Some(value) => self.cursor.within(key, |cursor| parser(value, cursor)),
            None => {
                let parent = self.value;
                self.cursor
                    .within(key, |cursor| cursor.report("missing", "Field required", parent))
            }
        }
    }

    /// Parses a field that may be absent or null.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parser: impl FnOnce(&Value, &mut Cursor) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        match self.fields.get(key) {
            None | Some(Value::Null) => None,
            Some(value) => self.cursor.within(key, |cursor| parser(value, cursor)),
        }
    }

    /// Parses a field that may be absent, but not null.
    pub fn with_default<T>(
        &mut self,
        key: &'static str,
        default: T,
        parser: impl FnOnce(&Value, &mut Cursor) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        match self.fields.get(key) {
            None => Some(default),
            Some(value) => self.cursor.within(key, |cursor| parser(value, cursor)),
        }
    }

    /// Whether `key` is present with a value other than null.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(|value| !value.is_null())
    }

    /// Reports every key that was not parsed. `unsupported` lists keys that SkyPilot has but this server does not
    /// support.
    pub fn finish(self, unsupported: &[&str]) {
        for (key, value) in self.fields {
            if self.cursor.is_full() {
                return;
            }
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let mut message = "Extra inputs are not permitted".to_owned();
            if unsupported.contains(&key.as_str()) {
                message.push_str(&format!(": SkyPilot's `{key}` is not supported by this server"));
            } else if let Some(nearest) = nearest(key, &self.known) {
                message.push_str(&format!(": did you mean `{nearest}`?"));
            }
            self.cursor.within(key.as_str(), |cursor| {
                cursor.report::<()>("extra_forbidden", message, value)
            });
        }
    }
}

/// Parses a map with arbitrary keys and at most `most` values, in the order of the input.
pub fn map<T>(
    value: &Value,
    cursor: &mut Cursor,
    most: usize,
    mut parser: impl FnMut(&str, &Value, &mut Cursor) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Object(fields) = value else {
        return cursor.report("dict_type", "Input should be a valid dictionary", value);
    };
    at_most("Dictionary", fields.len(), most, value, cursor)?;
    collect(
        fields
            .iter()
            .map(|(key, value)| cursor.within(key.as_str(), |cursor| parser(key, value, cursor))),
    )
}

/// Parses a list of at most `most` values.
pub fn list<T>(
    value: &Value,
    cursor: &mut Cursor,
    most: usize,
    mut parser: impl FnMut(&Value, &mut Cursor) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(items) = value else {
        return cursor.report("list_type", "Input should be a valid list", value);
    };
    at_most("List", items.len(), most, value, cursor)?;
    collect(
        items
            .iter()
            .enumerate()
            .map(|(index, item)| cursor.within(Location::Index(index), |cursor| parser(item, cursor))),
    )
}

/// Checks the number of items before the items are parsed, because there may be a million invalid ones.
fn at_most(what: &str, count: usize, most: usize, value: &Value, cursor: &mut Cursor) -> Option<()> {
    if count <= most {
        return Some(());
    }
    cursor.report_with(
        "too_long",
        format!("{what} should have at most {most} items after validation, not {count}"),
        value,
        json!({"field_type": what, "max_length": most, "actual_length": count}),
    )
}

/// Runs all parsers before checking for `None`: collecting directly into an `Option` would stop at the first error.
fn collect<T>(parsed: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let all: Vec<Option<T>> = parsed.collect();
    all.into_iter().collect()
}

fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= NEAREST_KEY_SIMILARITY)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}
