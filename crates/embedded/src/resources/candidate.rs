//! An object on its way into the store: decodes it, sets its defaults, and validates it.

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::metadata;
use crate::field_errors::FieldErrors;
use crate::object::{Kind, Object, names};
use crate::status_error::StatusError;

/// Validates the name of an object; the error is why it is invalid.
fn validate_name(kind: Kind, name: &str) -> Result<(), &'static str> {
    match kind {
        Kind::Service | Kind::Namespace => names::validate_label(name),
        _ => names::validate_subdomain(name),
    }
}

/// An object to be stored, and the stored object that it replaces.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// Its system fields are set.
    pub object: Object,
    /// `None` in a create.
    pub old: Option<&'a Object>,
}

impl Candidate<'_> {
    fn decode<T: DeserializeOwned>(kind: Kind, value: &Value) -> Result<T, StatusError> {
        let mut value = value.clone();
        canonicalize_quantities(&mut value).map_err(|why| StatusError::undecodable(kind, &why))?;
        serde_json::from_value(value).map_err(|error| StatusError::undecodable(kind, &error.to_string()))
    }

    /// Decodes the object as `T`, sets its defaults, and validates it. Fields that `T` doesn't know are dropped.
    pub(crate) fn prepare_as<T: DeserializeOwned + Serialize + Metadata<Ty = ObjectMeta>>(
        self,
        set_defaults: fn(&mut T, Option<&T>),
        validate: fn(&T, Option<&T>, &mut FieldErrors),
    ) -> Result<Value, StatusError> {
        let kind = self.object.kind;
        let mut new: T = Self::decode(kind, self.object.value())?;
        let old: Option<T> = self.old.map(|old| Self::decode(kind, old.value())).transpose()?;
        set_defaults(&mut new, old.as_ref());
        let mut errors = FieldErrors::default();
        let name = self.object.name();
        if self.old.is_none()
            && let Err(why) = validate_name(kind, name)
        {
            errors.invalid("metadata.name", name, why);
        }
        metadata::validate_metadata(new.metadata(), "metadata", &mut errors);
        metadata::validate_finalizers(&self.object.finalizers(), &mut errors);
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
        validate(&new, old.as_ref(), &mut errors);
        errors.into_result(kind, name)?;
        Ok(serde_json::to_value(&new)?)
    }
}

/// Converts quantities to their canonical form. Kubernetes does this when it decodes them, and also accepts numbers;
/// the Rust types do neither.
fn canonicalize_quantities(value: &mut Value) -> Result<(), String> {
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
                    other => canonicalize_quantities(other)?,
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                canonicalize_quantities(value)?;
            }
        }
        _ => {}
    }
    Ok(())
}
