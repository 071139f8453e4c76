//! Validation errors of an object, by field (`k8s.io/apimachinery/pkg/util/validation/field`).

use serde_json::Value;

/// A validation error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldError {
    /// Path of the field, e.g., `spec.template.spec.containers[0].name`.
    pub field: String,
    /// Machine-readable reason, e.g., `FieldValueRequired`.
    pub reason: &'static str,
    pub message: String,
}

/// Collects the validation errors of an object, so that a client sees all of them in one response.
#[derive(Debug, Default)]
pub(crate) struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    fn add(&mut self, field: impl Into<String>, reason: &'static str, message: String) {
        self.0.push(FieldError {
            field: field.into(),
            reason,
            message,
        });
    }

    pub(crate) fn required(&mut self, field: impl Into<String>, why: &str) {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        self.add(field, "FieldValueRequired", message);
    }

    pub(crate) fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, why: &str) {
        let message = format!("Invalid value: {}: {why}", value.into());
        self.add(field, "FieldValueInvalid", message);
    }

    pub(crate) fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|text| format!("\"{text}\"")).collect();
        let message = format!("Unsupported value: \"{value}\": supported values: {}", list.join(", "));
        self.add(field, "FieldValueNotSupported", message);
    }

    pub(crate) fn duplicate(&mut self, field: impl Into<String>, value: &str) {
        self.add(field, "FieldValueDuplicate", format!("Duplicate value: \"{value}\""));
    }

    /// The value refers to something that doesn't exist, e.g., a volume mount without its volume.
    pub(crate) fn not_found(&mut self, field: impl Into<String>, value: &str) {
        self.add(field, "FieldValueNotFound", format!("Not found: \"{value}\""));
    }

    pub(crate) fn forbidden(&mut self, field: impl Into<String>, why: &str) {
        self.add(field, "FieldValueForbidden", format!("Forbidden: {why}"));
    }

    pub(crate) fn too_long(&mut self, field: impl Into<String>, limit: usize) {
        let message = format!("Too long: may not be more than {limit} bytes");
        self.add(field, "FieldValueTooLong", message);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.0.iter()
    }
}
