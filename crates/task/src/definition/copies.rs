//! Parses the addresses of `file_mounts`: what each node copies from buckets and web servers.

use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::files::Target;
use super::scripts::MAX_PATH_BYTES;
use super::secrets::REDACTED;
use crate::validation::Validator;

/// The maximum number of copies of a task.
pub(super) const MAX_COPIES: usize = 100;

/// The schemes of addresses that nodes copy from.
const COPIED_SCHEMES: [&str; 3] = ["s3", "gs", "https"];

/// What each node copies before its setup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyMount {
    /// Where it is on the node: a folder for a folder, and a file for a file.
    pub target: Target,
    /// From where.
    pub source: CopySource,
}

impl CopyMount {
    /// The sizes of the texts that each pod has a copy of, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let (Target::WorkingDir(path) | Target::Elsewhere(path)) = &self.target;
        path.len() + self.source.0.len()
    }
}

/// A folder or an object of a bucket (`s3://`, `gs://`), or a file of a web server (`https://`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CopySource(String);

impl CopySource {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A command that does the same in `setup`.
    #[must_use]
    pub fn command(&self) -> String {
        command(&self.0)
    }

    /// Reads an address. The reason never repeats it.
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH_BYTES || text.chars().any(char::is_control) {
            return Err(format!(
                "an address has at most {MAX_PATH_BYTES} bytes, and no control characters"
            ));
        }
        match text.split_once("://") {
            Some(("https", _)) => check_web(text)?,
            Some((_, rest)) => check_bucket(rest)?,
            None => return Err("not an address".to_owned()),
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether nodes copy from such an address.
pub(super) fn is_copied(source: &str) -> bool {
    let scheme = source.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| COPIED_SCHEMES.contains(&scheme))
}

/// A command that copies from an address.
pub(super) fn command(source: &str) -> String {
    match source.split_once("://") {
        Some(("s3", _)) => format!("aws s3 cp --recursive {source} ."),
        Some(("gs", _)) => format!("gcloud storage cp -r {source} ."),
        _ => format!("curl -LO {source}"),
    }
}

pub(super) fn parse_copy(path: &str, source: &str, value: &Value, validator: &mut Validator) -> Option<CopyMount> {
    let target = Target::parse(path);
    // What is refused may be an address with a password.
    let source = CopySource::parse(source);
    match (target, source) {
        (Ok(target), Ok(source)) => Some(CopyMount { target, source }),
        (Err(reason), _) => validator.value_error(reason, value),
        (_, Err(reason)) => validator.value_error(reason, &json!(REDACTED)),
    }
}

fn check_web(text: &str) -> Result<(), String> {
    if text.contains(char::is_whitespace) {
        return Err("the address contains a space; write it as `%20`".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("the address is not valid: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the address must not contain a user name or a password; use `curl` in `setup`, with a secret of the task"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_bucket(rest: &str) -> Result<(), String> {
    let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    // The longest names are those of Google: <https://cloud.google.com/storage/docs/buckets#naming>.
    if !(3..=222).contains(&name.len()) || !name.bytes().all(is_part) {
        return Err("the name of a bucket has 3 to 222 letters, digits, `.`, `_`, or `-`".to_owned());
    }
    let is_hostile = |part: &str| matches!(part, "" | "." | "..");
    let without_end = key.strip_suffix('/').unwrap_or(key);
    if !key.is_empty() && without_end.split('/').any(is_hostile) {
        return Err("a folder of a bucket must not contain `//`, `.`, or `..`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::CopySource;
    use crate::TaskDefinition;

    fn parse(mounts: &Value) -> Result<Value, String> {
        let body = json!({"run": "true", "envs": {"B": "data"}, "file_mounts": mounts});
        let parsed = TaskDefinition::parse(&body, 1);
        parsed
            .map(|task| serde_json::to_value(task.copies).unwrap())
            .map_err(|errors| serde_json::to_string(&errors).unwrap())
    }

    #[test]
    fn buckets_and_files_of_web_servers_are_copied() {
        let copies =
            parse(&json!({"/d/$B": "s3://$B/train/", "data": "gs://bucket", "~/x.zip": "https://h/x.zip?a=b"}));
        let expected = json!([
            {"target": {"in": "elsewhere", "path": "/d/data"}, "source": "s3://data/train/"},
            {"target": {"in": "working_dir", "path": "data"}, "source": "gs://bucket"},
            {"target": {"in": "elsewhere", "path": "~/x.zip"}, "source": "https://h/x.zip?a=b"},
        ]);
        assert_eq!(copies, Ok(expected));
    }

    #[test]
    fn an_address_that_cannot_be_copied_is_refused_and_a_password_not_repeated() {
        for text in [
            "s3://",
            "s3://ab",
            "s3://a b c/x",
            "s3://data/a//b",
            "s3://data/../x",
            "s3://data//",
            "gs://data/./x",
            "https://",
            "https://h/a b",
            "https://me:canary@h/x",
        ] {
            assert!(CopySource::parse(text).is_err(), "{text}");
            let error = parse(&json!({"/x": text})).unwrap_err();
            assert!(
                error.contains(r#""file_mounts","/x"]"#) && !error.contains("canary"),
                "{error}"
            );
        }
        for (text, remedy) in [
            ("r2://data/x", "write `s3://data/x`, and set `AWS_ENDPOINT_URL`"),
            ("nebius://data", "write `s3://data`, and set `AWS_ENDPOINT_URL`"),
            ("http://h/x", "e.g., `curl -LO http://h/x`"),
            ("azure://x/y", "in `setup`, with the tool of its provider"),
        ] {
            let error = parse(&json!({"/x": text})).unwrap_err();
            assert!(error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn a_copy_has_a_place_of_its_own() {
        for (body, wanted) in [
            (json!({"file_mounts": {"/x/": "s3://data"}}), "must not end with `/`"),
            (json!({"file_mounts": {"/../x": "s3://data"}}), "must not contain `..`"),
            (
                json!({"file_mounts": {"d": "s3://data", "./d": "s3://data"}}),
                "have the same path",
            ),
            (
                json!({"file_mounts": {"d": "s3://data"}, "files": {"./d": "0".repeat(64)}}),
                "have the same path",
            ),
            (
                json!({"file_mounts": {".": "s3://data"}, "workdir": "/x"}),
                "starts in `/x`",
            ),
        ] {
            let mut body = body;
            body["run"] = json!("true");
            let errors = TaskDefinition::parse(&body, 1).unwrap_err();
            assert!(errors[0].msg.contains(wanted), "{body}: {}", errors[0].msg);
        }
        let many: Value = (0..101)
            .map(|at| (format!("/d{at}"), json!("s3://data")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        assert!(parse(&many).unwrap_err().contains("at most 100"));
    }

    #[test]
    fn a_bucket_that_is_mounted_is_refused_with_what_copies_it() {
        for source in [json!("s3://data/x"), json!(["s3://data/x"])] {
            let error = parse(&json!({"/x": {"source": source, "mode": "MOUNT"}})).unwrap_err();
            assert!(
                error.contains("buckets are not mounted; to copy it before `setup`, write `/x: s3://data/x`"),
                "{error}"
            );
        }
    }
}
