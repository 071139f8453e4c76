//! Defaulting and validation, one file per kind or family of kinds.

pub mod claim;
pub mod config;
pub mod job;
pub mod plain;
pub mod pod;
mod pod_spec;
pub mod service;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::object::{Kind, Object, name};
use crate::refusal::{FieldErrors, Refusal};

/// An object to be defaulted and validated before it is stored.
#[derive(Debug)]
pub struct Admit<'a> {
    /// The object; its system fields are already set.
    pub object: Object,
    /// The stored object, in an update.
    pub old: Option<&'a Object>,
}

impl Admit<'_> {
    fn read<T: DeserializeOwned>(kind: &Kind, value: &Value) -> Result<T, Refusal> {
        let mut value = value.clone();
        canonical_quantities(&mut value).map_err(|why| Refusal::undecodable(kind, &why))?;
        serde_json::from_value(value).map_err(|error| Refusal::undecodable(kind, &error.to_string()))
    }

    /// Decodes the object as `T`, sets its defaults, and validates it. Fields that `T` doesn't know are dropped.
    fn typed<T: DeserializeOwned + Serialize>(
        self,
        complete: fn(&mut T, Option<&T>),
        check: fn(&T, Option<&T>, &mut FieldErrors),
    ) -> Result<Value, Refusal> {
        let kind = self.object.kind;
        let mut new: T = Self::read(kind, &self.object.value)?;
        let old: Option<T> = self.old.map(|old| Self::read(kind, &old.value)).transpose()?;
        complete(&mut new, old.as_ref());
        let mut errors = FieldErrors::default();
        if self.old.is_none() {
            kind.check_name(self.object.name(), &mut errors);
        }
        let value = serde_json::to_value(&new).map_err(Refusal::internal)?;
        name::check_metadata(&value["metadata"], "metadata", &mut errors);
        name::check_finalizers(&self.object.finalizers(), &mut errors);
        if let Some(old) = self.old.filter(|old| old.is_deleting()) {
            let known = old.finalizers();
            let added: Vec<&str> = self
                .object
                .finalizers()
                .into_iter()
                .filter(|one| !known.contains(one))
                .collect();
            if !added.is_empty() {
                let why = format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{:?}}}",
                    added.join(", ")
                );
                errors.forbidden("metadata.finalizers", &why);
            }
        }
        check(&new, old.as_ref(), &mut errors);
        errors.into_result(kind, self.object.name())?;
        Ok(value)
    }
}

/// Converts quantities to their canonical form. Kubernetes does this when it decodes them, and also accepts numbers;
/// the Rust types do neither.
fn canonical_quantities(value: &mut Value) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let quantities = matches!(
                    key.as_str(),
                    "requests" | "limits" | "hard" | "used" | "capacity" | "allocatable"
                );
                match value {
                    Value::Object(amounts) if quantities => {
                        for amount in amounts
                            .values_mut()
                            .filter(|amount| amount.is_number() || amount.is_string())
                        {
                            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
                            let quantity = quantity::Quantity::parse(&text).ok_or_else(|| {
                                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
                            })?;
                            *amount = quantity.to_string().into();
                        }
                    }
                    other => canonical_quantities(other)?,
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                canonical_quantities(value)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Paths of fields in `sent` that are not in `known`.
pub fn unknown_fields(sent: &Value, known: &Value) -> Vec<String> {
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
                    None if value.is_null() || here == "status" || is_written_away(&here) => {}
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
fn is_written_away(path: &str) -> bool {
    matches!(
        path,
        "stringData" | "metadata.generateName" | "metadata.selfLink" | "metadata.managedFields"
    )
}
