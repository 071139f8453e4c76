//! PATCH: JSON patch, merge patch, strategic merge patch, and apply.

use axum::response::Response;
use http::{StatusCode, header};
use serde_json::Value;

use super::query::META;
use super::view::View;
use super::write::{FieldValidation, body, change, check_type, create_in};
use super::{Api, Call};
use crate::object::{Object, strategic_merge};
use crate::refusal::{FieldErrors, Refusal};
use crate::store::Durability;

/// Patch formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

const ACCEPTED: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

impl Form {
    fn of(content_type: &str) -> Result<Self, Refusal> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Refusal::unsupported_media_type(ACCEPTED)),
        }
    }

    /// Returns the object with the patch applied.
    fn applied(self, old: &Object, patch: &Value) -> Result<Value, Refusal> {
        let mut value = old.value.clone();
        let unreadable = |why: String| Refusal::bad_request(format!("error decoding patch: {why}"));
        match self {
            Self::Json => {
                let patch: json_patch::Patch =
                    serde_json::from_value(patch.clone()).map_err(|error| unreadable(error.to_string()))?;
                json_patch_within_limits(&mut value, patch)?;
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

fn json_patch_within_limits(value: &mut Value, patch: json_patch::Patch) -> Result<(), Refusal> {
    let unfit = |why: String| Refusal::unfit_patch(&why);
    if patch.0.len() > MAX_OPERATIONS {
        let count = patch.0.len();
        return Err(unfit(format!(
            "the allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    let mut copied = 0;
    for operation in patch.0 {
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            let source = value.pointer(copy.from.as_str());
            copied += source.map_or(0, |source| source.to_string().len());
            if copied > MAX_COPIED {
                return Err(unfit(format!("the JSON patch copies more than {MAX_COPIED} bytes")));
            }
        }
        json_patch::patch(value, &[operation]).map_err(|error| unfit(error.to_string()))?;
    }
    Ok(())
}

pub(super) async fn patch(api: &Api, call: Call) -> Result<Response, Refusal> {
    let content_type = call
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let form = Form::of(content_type.unwrap_or_default())?;
    let validation = FieldValidation::of(&call.query, "PatchOptions")?;
    let keep = !call.query.dry_run("PatchOptions")?;
    let bytes = body(call.body).await?;
    let patch: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    if form == Form::Apply {
        if call.query.get("fieldManager").is_none() {
            let mut errors = FieldErrors::default();
            errors.required("fieldManager", "is required for apply patch");
            return Err(Refusal::invalid_option("PatchOptions", META, errors));
        }
        check_type(&patch, call.target.kind)?;
    } else if !patch.is_object() && form != Form::Json {
        return Err(Refusal::bad_request("error decoding patch: must be a JSON object"));
    }
    let target = call.target.clone();
    let (written, is_new) = api
        .store
        .write(Durability::Disk, keep, move |transaction| {
            let (namespace, name) = target.one();
            let is_status = target.subresource.is_some();
            let Some(old) = transaction.get(target.kind, namespace, name)? else {
                if form != Form::Apply || is_status {
                    return Err(Refusal::not_found(target.kind, name));
                }
                let mut object = Object::new(target.kind, patch);
                object.set("name", name);
                if target.kind.namespaced {
                    object.set("namespace", namespace);
                }
                return Ok((create_in(transaction, object, validation)?, true));
            };
            let mut new = Object::new(target.kind, form.applied(&old, &patch)?);
            if new.name() != name {
                return Err(Refusal::bad_request(format!(
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
            match change(transaction, &old, new, is_status, validation) {
                Err(refusal) if refusal.reason == "BadRequest" && validation != FieldValidation::Strict => {
                    Err(Refusal::invalid_patch(&refusal.message))
                }
                changed => changed.map(|written| (written, false)),
            }
        })
        .await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(written.respond(status, View::accepted(&call.headers, api.clock)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::json_patch_within_limits;

    #[test]
    fn a_json_patch_that_copies_the_object_into_itself_again_and_again_is_refused() {
        let copies: Vec<_> = (0..64)
            .map(|index| json!({"op": "copy", "from": "", "path": format!("/copy-{index}")}))
            .collect();
        let mut value = json!({"data": {"a": "b"}});
        let few = serde_json::from_value(json!(copies[..3])).unwrap();
        assert!(json_patch_within_limits(&mut value, few).is_ok());
        let many = serde_json::from_value(json!(copies)).unwrap();
        let refusal = json_patch_within_limits(&mut value, many).unwrap_err();
        assert!(refusal.message.contains("copies more than"), "{refusal:?}");
        assert!(value.to_string().len() < 8 * 1024 * 1024);
    }

    #[test]
    fn a_json_patch_of_very_many_operations_is_refused() {
        let tests = vec![json!({"op": "test", "path": "/a", "value": 1}); 10_001];
        let patch = serde_json::from_value(json!(tests)).unwrap();
        assert!(json_patch_within_limits(&mut json!({"a": 1}), patch).is_err());
    }
}
