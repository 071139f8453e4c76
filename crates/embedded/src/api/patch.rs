//! PATCH: JSON patch, merge patch, strategic merge patch, and apply.

use axum::response::Response;
use http::{StatusCode, header};
use serde_json::Value;

use super::body::{check_type, read_body};
use super::field_validation::FieldValidation;
use super::query::META;
use super::representation::Representation;
use super::request::{Api, ResourceRequest};
use super::write::{create_in, update_in};
use crate::field_errors::FieldErrors;
use crate::kubectl::strategic_merge;
use crate::object::Object;
use crate::status_error::{StatusError, StatusReason};
use crate::store::Durability;

/// Patch formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

impl PatchType {
    fn from_content_type(content_type: &str) -> Result<Self, StatusError> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(StatusError::unsupported_media_type(ACCEPTED)),
        }
    }

    /// Returns the object with the patch applied.
    fn apply_to(self, old: &Object, patch: &Value) -> Result<Value, StatusError> {
        let mut value = old.value().clone();
        let unreadable = |why: String| StatusError::bad_request(format!("error decoding patch: {why}"));
        match self {
            Self::Json => {
                let patch: json_patch::Patch =
                    serde_json::from_value(patch.clone()).map_err(|error| unreadable(error.to_string()))?;
                apply_json_patch(&mut value, patch)?;
            }
            Self::Merge => json_patch::merge(&mut value, patch),
            // Apply has no field management here: it merges, so fields and list entries that were dropped from the
            // configuration stay in the object.
            Self::Strategic | Self::Apply => strategic_merge(&mut value, patch).map_err(unreadable)?,
        }
        Ok(value)
    }
}

/// Maximum number of operations in a JSON patch; kube-apiserver's limit.
const MAX_OPERATIONS: usize = 10_000;

/// Maximum number of bytes that a JSON patch may copy in total; kube-apiserver's limit. Without it, thirty operations
/// that each copy the whole object into itself would make it a billion times as large.
const MAX_COPIED: usize = 3 * 1024 * 1024;

fn apply_json_patch(value: &mut Value, patch: json_patch::Patch) -> Result<(), StatusError> {
    let unfit = |why: String| StatusError::inapplicable_patch(&why);
    if patch.0.len() > MAX_OPERATIONS {
        let count = patch.0.len();
        return Err(unfit(format!(
            "the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    let mut copied = 0;
    for (index, operation) in patch.0.into_iter().enumerate() {
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            let source = value.pointer(copy.from.as_str());
            copied += source.map_or(0, |source| source.to_string().len());
            if copied > MAX_COPIED {
                return Err(unfit(format!("the JSON patch copies more than {MAX_COPIED} bytes")));
            }
        }
        json_patch::patch(value, &[operation]).map_err(|mut error| {
            error.operation = index;
            unfit(error.to_string())
        })?;
    }
    Ok(())
}

pub(super) async fn patch(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let content_type = request
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let patch_type = PatchType::from_content_type(content_type.unwrap_or_default())?;
    let validation = FieldValidation::from_query(&request.query, "PatchOptions")?;
    let mode = request.query.write_mode("PatchOptions")?;
    let bytes = read_body(request.body).await?;
    let patch: Value = serde_json::from_slice(&bytes)
        .map_err(|error| StatusError::bad_request(format!("error decoding patch: {error}")))?;
    if patch_type == PatchType::Apply {
        if request.query.get("fieldManager").is_none() {
            let mut errors = FieldErrors::default();
            errors.required("fieldManager", "is required for apply patch");
            return Err(StatusError::invalid_option("PatchOptions", META, &errors));
        }
        check_type(&patch, request.target.kind)?;
    } else if !patch.is_object() && patch_type != PatchType::Json {
        return Err(StatusError::bad_request("error decoding patch: must be a JSON object"));
    }
    let target = request.target.clone();
    let (written, is_new) = api
        .store
        .write_or_dry_run(Durability::Disk, mode, move |transaction| {
            let (namespace, name) = target.namespace_and_name();
            let is_status = target.subresource.is_some();
            let Some(old) = transaction.get(target.kind, namespace, name)? else {
                if patch_type != PatchType::Apply || is_status {
                    return Err(StatusError::not_found(target.kind, name));
                }
                let mut object = Object::new(target.kind, patch);
                object.set("name", name);
                if target.kind.is_namespaced() {
                    object.set("namespace", namespace);
                }
                return Ok((create_in(transaction, object, validation)?, true));
            };
            let mut new = Object::new(target.kind, patch_type.apply_to(&old, &patch)?);
            if new.name() != name {
                return Err(StatusError::bad_request(format!(
                    "the name of the object ({}) does not match the name on the URL ({name})",
                    new.name()
                )));
            }
            new.metadata_mut().shift_remove("managedFields");
            if new.uid() != old.uid() {
                let mut errors = FieldErrors::default();
                errors.invalid("metadata.uid", new.uid(), "field is immutable");
                errors.into_result(target.kind, name)?;
            }
            // As in kube-apiserver: a patched object that doesn't decode is `Invalid`, while unknown fields under
            // strict validation are a `BadRequest`.
            match update_in(transaction, &old, new, is_status, validation) {
                Err(error) if error.reason == StatusReason::BadRequest && validation != FieldValidation::Strict => {
                    Err(StatusError::invalid_patch(&error.message))
                }
                changed => changed.map(|written| (written, false)),
            }
        })
        .await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(written.respond(status, Representation::from_accept(&request.headers, api.clock)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::apply_json_patch;

    #[test]
    fn a_json_patch_that_copies_the_object_into_itself_again_and_again_is_refused() {
        let copies: Vec<_> = (0..64)
            .map(|index| json!({"op": "copy", "from": "", "path": format!("/copy-{index}")}))
            .collect();
        let mut value = json!({"data": {"a": "b"}});
        let few = serde_json::from_value(json!(copies[..3])).unwrap();
        assert!(apply_json_patch(&mut value, few).is_ok());
        let many = serde_json::from_value(json!(copies)).unwrap();
        let error = apply_json_patch(&mut value, many).unwrap_err();
        assert!(error.message.contains("copies more than"), "{error:?}");
        assert!(value.to_string().len() < 8 * 1024 * 1024);
    }

    #[test]
    fn a_json_patch_that_fails_names_the_operation() {
        let patch = json!([{"op": "add", "path": "/b", "value": 2}, {"op": "remove", "path": "/c"}]);
        let error = apply_json_patch(&mut json!({"a": 1}), serde_json::from_value(patch).unwrap()).unwrap_err();
        assert!(error.message.contains("operation '/1'"), "{error:?}");
    }

    #[test]
    fn a_json_patch_of_very_many_operations_is_refused() {
        let tests = vec![json!({"op": "test", "path": "/a", "value": 1}); 10_001];
        let patch = serde_json::from_value(json!(tests)).unwrap();
        assert!(apply_json_patch(&mut json!({"a": 1}), patch).is_err());
    }
}
