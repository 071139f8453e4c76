//! Objects, maps and lists: fields in their order of declaration, and keys that nobody declared.

use serde_json::{Map, Value, json};

use super::{Cursor, Location};

/// How alike two keys must be (Jaro-Winkler, 0 to 1) before one is offered for the other.
const NEAREST_KEY_SIMILARITY: f64 = 0.8;

/// An object whose fields are being read. Fields are reported in the order in which they are asked for.
#[derive(Debug)]
pub struct Object<'a, 'c> {
    value: &'a Value,
    fields: &'a Map<String, Value>,
    cursor: &'c mut Cursor,
    known: Vec<&'static str>,
}

impl<'a, 'c> Object<'a, 'c> {
    /// Opens `value`, or reports that it is no object.
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

    /// A field that must be there.
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

    /// A field that may be absent or null.
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

    /// A field that may be absent, but not null.
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

    /// Whether `key` is there with a value other than null.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(|value| !value.is_null())
    }

    /// Reports every key that was not asked for. `unsupported` are keys that SkyPilot has and this server has not.
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
                message.push_str(&format!(
                    ": `{key}` is a key of SkyPilot that this server does not support"
                ));
            } else if let Some(nearest) = nearest(key, &self.known) {
                message.push_str(&format!(": did you mean `{nearest}`?"));
            }
            self.cursor.within(key.as_str(), |cursor| {
                cursor.report::<()>("extra_forbidden", message, value)
            });
        }
    }
}

/// A map from any keys to at most so many values of one kind, in the order of the input.
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

/// A list of at most so many values of one kind.
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

/// The count is looked at before the contents, which may be a million wrong ones.
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

/// Collecting straight into an `Option` would stop at the first `None` and leave later errors unseen.
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
