//! Parses `file_mounts`. The CLI turns local files into `files`, and each node copies what has an address. Buckets are not
//! mounted: one that is named, and not addressed, is one of the user's volumes.

use serde_json::Value;

use super::copies::{CopyMount, command, is_copied, parse_copy};
use super::volume_mounts::{VolumeMount, named, volume_mount};
use crate::validation::{Fields, Validator, coerce};

/// The maximum number of file mounts.
pub(super) const MAX_FILE_MOUNTS: usize = 1000;

/// Addresses of buckets and files that SkyPilot downloads.
const SCHEMES: [&str; 11] = [
    "s3", "gs", "r2", "https", "http", "cos", "oci", "nebius", "cw", "azure", "hf",
];

/// Those of providers whose buckets have an address of S3, too.
const S3_SCHEMES: [&str; 4] = ["r2", "oci", "nebius", "cw"];

/// What a file mount is.
enum Mount {
    Volume(VolumeMount),
    Copy(CopyMount),
    Local,
}

/// Returns the volumes that the mounts name, and what they copy.
pub(super) fn parse_file_mounts(
    value: &Value,
    validator: &mut Validator,
) -> Option<(Vec<VolumeMount>, Vec<CopyMount>)> {
    let mounts = coerce::map(
        value,
        validator,
        MAX_FILE_MOUNTS,
        |path, value, validator| match value {
            Value::Object(_) => parse_bucket(path, value, validator).map(Mount::Volume),
            _ => parse_source(path, value, validator),
        },
    )?;
    let (mut volumes, mut copies, mut has_local) = (Vec::new(), Vec::new(), false);
    for mount in mounts {
        match mount {
            Mount::Volume(volume) => volumes.push(volume),
            Mount::Copy(copy) => copies.push(copy),
            Mount::Local => has_local = true,
        }
    }
    if has_local {
        validator.warn("local files of `file_mounts` are copied only by the CLI; upload them, and use `files`");
    }
    Some((volumes, copies))
}

/// Parses a local path or an address. An address that nodes cannot copy from is rejected: a task without its data would
/// run in vain.
fn parse_source(path: &str, value: &Value, validator: &mut Validator) -> Option<Mount> {
    let source = coerce::string(value, validator)?;
    if is_copied(&source) {
        return parse_copy(path, &source, value, validator).map(Mount::Copy);
    }
    match reject_address(&source) {
        Some(reason) => validator.value_error(reason, value),
        None => Some(Mount::Local),
    }
}

fn reject_address(source: &str) -> Option<String> {
    let (scheme, path) = source.split_once("://")?;
    if !SCHEMES.contains(&scheme) {
        return None;
    }
    let only = "nodes copy only from `s3://`, `gs://`, and `https://`";
    if S3_SCHEMES.contains(&scheme) {
        return Some(format!(
            "{only}; write `s3://{path}`, and set `AWS_ENDPOINT_URL` to the S3 address of the provider, with its keys as \
             the secrets `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`"
        ));
    }
    let remedy = match scheme {
        "http" => format!("copy the data in `setup`, e.g., `{}`", command(source)),
        _ => "copy the data in `setup`, with the tool of its provider".to_owned(),
    };
    Some(format!("{only}; {remedy}"))
}

/// Why an address cannot be the source of a mount.
fn reject_mount(path: &str, source: &str) -> Option<String> {
    if is_copied(source) {
        return Some(format!(
            "buckets are not mounted; to copy it before `setup`, write `{path}: {source}`"
        ));
    }
    reject_address(source)
}

/// Parses a bucket that is only named: `{name: my-data, mode: MOUNT}`.
fn parse_bucket(path: &str, value: &Value, validator: &mut Validator) -> Option<VolumeMount> {
    let mut fields = Fields::from_value(value, validator)?;
    let name = fields.optional("name", coerce::string);
    let source = fields.optional("source", |value, validator| match value {
        Value::Array(_) => coerce::list(value, validator, MAX_FILE_MOUNTS, coerce::string).map(|list| list.join(", ")),
        _ => coerce::string(value, validator),
    });
    let mode = fields.optional("mode", coerce::string);
    for key in ["store", "type"] {
        fields.optional(key, coerce::string);
    }
    fields.optional("persistent", coerce::boolean);
    fields.optional("config", |_, _| Some(()));
    fields.deny_unknown_fields(|_| None);
    if let Some(source) = source {
        let reason = reject_mount(path, &source).unwrap_or_else(|| {
            "a bucket of local files is not supported; use `PATH: ./local` to copy them, or store the data in a volume, and mount it by `name` alone".to_owned()
        });
        return validator.within("source", |validator| validator.value_error(reason, &value["source"]));
    }
    let Some(name) = name else {
        return validator.value_error("a mount requires the `name` of a volume, or a `source`", value);
    };
    if mode.is_some_and(|mode| mode.eq_ignore_ascii_case("COPY")) {
        let reason = "a volume cannot be copied; use `mode: MOUNT`";
        return validator.within("mode", |validator| validator.value_error(reason, &value["mode"]));
    }
    let mount = volume_mount(("file_mounts", path), named(name.clone()), value, validator)?;
    validator.warn(format!(
        "`file_mounts.{path}` mounts the volume `{name}`; there are no buckets"
    ));
    Some(mount)
}
