//! Parses `files`: the file sets of a task, and where each is unpacked.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::scripts::MAX_PATH_BYTES;
use crate::validation::{Validator, coerce};

/// The maximum number of file sets of a task.
pub(super) const MAX_FILE_SETS: usize = 100;

/// The target that stands for the working folder itself.
const WORKING_DIR: &str = ".";

/// The pattern of a file set, or of a file in one, for the OpenAPI document; [`parse_files`] implements the rule. That the
/// file has the name of the target is only in the description.
pub(super) const FILE_SET_PATTERN: &str = r"^[0-9a-f]{64}(/[^/\x00-\x1f\x7f-\x9f]+)?$";

/// The pattern of a target, for the OpenAPI document; [`Target::parse`] implements the rule. `..` is only in the
/// description.
pub(super) const TARGET_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^/\x00-\x1f\x7f-\x9f]$";

/// The ID of a file set: the SHA-256 of its manifest, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FileSetId(String);

impl FileSetId {
    /// Reads an ID.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileSetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where a file set is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "in", content = "path", rename_all = "snake_case")]
pub enum Target {
    /// In the working folder, or below it.
    WorkingDir(String),
    /// At another path, which bash expands: absolute, or below `~`.
    Elsewhere(String),
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let is_valid_length = (1..=MAX_PATH_BYTES).contains(&text.len());
        if !is_valid_length || text.chars().any(char::is_control) {
            return Err(format!(
                "a path must be 1 to {MAX_PATH_BYTES} bytes long, without control characters"
            ));
        }
        if text.ends_with('/') {
            return Err(format!(
                "the path `{text}` must not end with `/`; it names the file or directory itself"
            ));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(format!("the path `{text}` must not contain `..`"));
        }
        let below = text.strip_prefix("./").unwrap_or(text);
        let below = below.strip_prefix("~/sky_workdir/").unwrap_or(below);
        Ok(match below {
            WORKING_DIR | "~/sky_workdir" => Self::WorkingDir(String::new()),
            path if path.starts_with(['/', '~', '$']) => Self::Elsewhere(path.to_owned()),
            path => Self::WorkingDir(path.to_owned()),
        })
    }
}

/// A file set of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileMount {
    /// Where it is unpacked.
    pub target: Target,
    /// The file set.
    pub files: FileSetId,
    /// Whether the target is a file of this name in the set, and not a folder with all of its files.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_file: bool,
}

pub(super) fn parse_files(value: &Value, validator: &mut Validator) -> Option<Vec<FileMount>> {
    coerce::map(value, validator, MAX_FILE_SETS, |path, value, validator| {
        let target = match Target::parse(path) {
            Ok(target) => target,
            Err(reason) => return validator.value_error(reason, value),
        };
        let text = coerce::string(value, validator)?;
        let (id, file) = match text.split_once('/') {
            Some((id, file)) => (id, Some(file)),
            None => (text.as_str(), None),
        };
        let Some(files) = FileSetId::new(id) else {
            return validator.value_error(
                "the ID of a file set has 64 hexadecimal digits; use the `files` of the response to its upload",
                value,
            );
        };
        let name = path.rsplit('/').next();
        if file.is_some() && (file != name || target == Target::WorkingDir(String::new())) {
            return validator.value_error("a file of a file set must have the name of its path", value);
        }
        Some(FileMount {
            target,
            files,
            is_file: file.is_some(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn a_target_is_below_the_working_folder_or_elsewhere() {
        let below = |path: &str| Ok(Target::WorkingDir(path.to_owned()));
        let elsewhere = |path: &str| Ok(Target::Elsewhere(path.to_owned()));
        for (text, expected) in [
            (".", below("")),
            ("~/sky_workdir", below("")),
            ("~/sky_workdir/data", below("data")),
            ("data/x y", below("data/x y")),
            ("./data", below("data")),
            ("/data", elsewhere("/data")),
            ("~/.config", elsewhere("~/.config")),
            ("$HOME/x", elsewhere("$HOME/x")),
        ] {
            assert_eq!(Target::parse(text), expected, "{text}");
        }
        for text in ["", "/", "data/", "../x", "/a/../b", "a\nb"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
