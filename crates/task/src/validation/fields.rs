//! Parses the fields of an object. Errors are reported in the order of parsing, and unknown keys are errors.

use serde_json::{Map, Value};

use super::validator::Validator;

/// A longer key is no misspelled one.
const MAX_MISSPELLED_BYTES: usize = 64;

/// The minimum similarity (Jaro-Winkler, 0 to 1) of an unknown key to a known one that is suggested for it.
const NEAREST_KEY_SIMILARITY: f64 = 0.8;

/// The fields of an object that is being parsed.
#[derive(Debug)]
pub struct Fields<'a, 'v> {
    object: &'a Value,
    fields: &'a Map<String, Value>,
    validator: &'v mut Validator,
    /// The keys that were parsed so far.
    known: Vec<&'static str>,
}

impl<'a, 'v> Fields<'a, 'v> {
    /// Starts parsing `value`, or reports that it is not an object.
    pub fn from_value(value: &'a Value, validator: &'v mut Validator) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self {
                object: value,
                fields,
                validator,
                known: Vec::new(),
            }),
            _ => validator.push_error(
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
        parser: impl FnOnce(&Value, &mut Validator) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        match self.fields.get(key) {
            Some(value) => self.validator.within(key, |validator| parser(value, validator)),
            None => {
                let parent = self.object;
                self.validator.within(key, |validator| {
                    validator.push_error("missing", "Field required", parent)
                })
            }
        }
    }

    /// Parses a field that may be absent or null.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parser: impl FnOnce(&Value, &mut Validator) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        match self.fields.get(key) {
            None | Some(Value::Null) => None,
            Some(value) => self.validator.within(key, |validator| parser(value, validator)),
        }
    }

    /// Parses a field that may be absent, but not null.
    pub fn with_default<T>(
        &mut self,
        key: &'static str,
        default: T,
        parser: impl FnOnce(&Value, &mut Validator) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        match self.fields.get(key) {
            None => Some(default),
            Some(value) => self.validator.within(key, |validator| parser(value, validator)),
        }
    }

    /// Whether a field is present and not null.
    pub fn has(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(|value| !value.is_null())
    }

    /// Accepts a field without an effect if its value is such.
    pub fn accept_if(&mut self, key: &'static str, is_such: fn(&Value) -> bool) {
        if self.fields.get(key).is_some_and(is_such) {
            self.known.push(key);
        }
    }

    /// Whether a field was parsed already.
    pub fn is_parsed(&self, key: &str) -> bool {
        self.known.contains(&key)
    }

    /// Warns the user about this object.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.validator.warn(warning);
    }

    /// Reports an error of a field, e.g., that it contradicts another one.
    pub fn value_error(&mut self, key: &'static str, reason: impl Into<String>) {
        let value = &self.fields[key];
        self.validator
            .within(key, |validator| validator.value_error::<()>(reason, value));
    }

    /// Reports every key that was not parsed. `rejected` returns what to use instead of a key that is known, but not
    /// supported.
    pub fn deny_unknown_fields(self, rejected: impl Fn(&str) -> Option<&'static str>) {
        for (key, value) in self.fields {
            if self.validator.is_full() {
                return;
            }
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let mut message = "Extra inputs are not permitted".to_owned();
            if let Some(reason) = rejected(key) {
                message.push_str(&format!(": {reason}"));
            } else if let Some(nearest) = nearest_key(key, &self.known) {
                message.push_str(&format!(": did you mean `{nearest}`?"));
            }
            self.validator.within(key.as_str(), |validator| {
                validator.push_error::<()>("extra_forbidden", message, value)
            });
        }
    }
}

fn nearest_key<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // The comparison takes seconds for a key of megabytes.
    if key.len() > MAX_MISSPELLED_BYTES {
        return None;
    }
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= NEAREST_KEY_SIMILARITY)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}
