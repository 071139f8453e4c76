//! Reads, parses, and validates the task to submit.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use task::TaskDefinition;
use task::definition::fill_text;
use task::definition::keys::{CONFIG, RESOURCES, TASK};

use super::document::YamlDocument;
use super::git;
use super::local_files::{self, FileSets, Here, LocalPart};
use super::overrides::{self, Overrides};
use super::variables;
use crate::error::{Error, FileAction, Result};
use crate::field_error::FieldError;
use crate::report::{Report, TaskSource};

/// Maximum size of a task file; the same as that of a request to the server.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The keys of a mount, by the key of the task that it is in.
const MOUNT_KEYS: [(&str, &[&str]); 2] = [
    (
        "file_mounts",
        &["name", "source", "store", "mode", "type", "persistent", "config"],
    ),
    ("volumes", &["name", "sub_path", "size", "labels", "config"]),
];

#[derive(Debug)]
pub(crate) struct TaskFile {
    body: Value,
    source: TaskSource,
    warnings: Vec<String>,
}

impl TaskFile {
    /// Parses the text of a file; `name` is used in messages.
    pub(crate) fn parse(name: String, text: String) -> Result<Self> {
        let document = match YamlDocument::parse(&text).map(without_nulls) {
            Ok(document) => document,
            Err(error) => {
                return Err(Error::InvalidTask(Report::parse_error(
                    &name,
                    &text,
                    error.message,
                    error.range,
                )));
            }
        };
        let YamlDocument {
            value,
            spans,
            ambiguous,
        } = document;
        let warnings = ambiguous
            .into_iter()
            .map(|scalar| {
                format!("`{scalar}` is kept as written, but SkyPilot reads it as a different value; quote it")
            })
            .collect();
        Ok(Self {
            body: value,
            source: TaskSource::file(name, text, spans),
            warnings,
        })
    }

    /// A task that runs a command, named after it. A single argument with spaces is a line of bash, as with `ssh` and
    /// `sky`, because no program has such a name.
    pub(crate) fn from_command(words: &[String]) -> Result<Self> {
        let script = match words {
            [line] if line.contains(char::is_whitespace) => line.clone(),
            _ => shlex::try_join(words.iter().map(String::as_str))
                .map_err(|_| Error::Usage("the command must not contain NUL characters".to_owned()))?,
        };
        let mut body = json!({ "run": script });
        if let Some(name) = name_of_command(&script) {
            body["name"] = json!(name);
        }
        Ok(Self {
            body,
            source: TaskSource::command(),
            warnings: Vec::new(),
        })
    }

    /// Lets a task without scripts run nothing, as in SkyPilot: it may only describe resources, as a part of other files
    /// does. The API requires `run`.
    pub(super) fn add_missing_run(&mut self) {
        let Some(body) = self.body.as_object_mut() else { return };
        if !body.contains_key("run") && !body.contains_key("setup") {
            body.insert("run".to_owned(), json!(""));
            let warning = "the task has neither `setup` nor `run`, so it completes at once";
            self.warnings.push(warning.to_owned());
        }
    }

    pub(crate) fn apply(&mut self, overrides: &Overrides) -> Result<()> {
        overrides.apply(&mut self.body, &mut self.source)
    }

    /// Sets an environment variable, unless the task sets it.
    pub(crate) fn set_default_variable(&mut self, name: &str, value: &str) {
        let is_set = |key: &str| {
            self.body[key]
                .as_object()
                .is_some_and(|variables| variables.contains_key(name))
        };
        if is_set("envs") || is_set("secrets") {
            return;
        }
        let Some(body) = self.body.as_object_mut() else { return };
        let envs = body.entry("envs").or_insert_with(|| json!({}));
        // Anything other than a map is reported by `validate`.
        if let Some(envs) = envs.as_object_mut() {
            envs.insert(name.to_owned(), json!(value));
        }
    }

    /// Gives the task the caller's credential for its repository, unless it has one. Returns the variable of the caller
    /// that has it.
    pub(super) fn add_git_credential(&mut self) -> Result<Option<&'static str>> {
        let found = git::credential(&self.body, |name| std::env::var(name).ok())?;
        let Some(git::Credential { name, value, variable }) = found else {
            return Ok(None);
        };
        let Some(secrets) = overrides::object_entry(&mut self.body, "secrets") else {
            return Ok(None);
        };
        secrets.insert(name.to_owned(), json!(value));
        self.source.record_flag(&["secrets", name], variable);
        Ok(Some(variable))
    }

    /// Names the task, unless it has a name.
    pub(crate) fn set_default_name(&mut self, name: Option<&str>) {
        if let (Some(name), Some(body)) = (name, self.body.as_object_mut()) {
            body.entry("name").or_insert_with(|| json!(name));
        }
    }

    /// Validates the task with the same rules as the server, as far as that is possible locally. Reports all errors
    /// together.
    pub(crate) fn validate(&self) -> Result<()> {
        self.validate_as(None)
    }

    /// Validates the task with another body, if there is one, in place of its own.
    pub(super) fn validate_as(&self, body: Option<&Value>) -> Result<()> {
        let mut body = body.unwrap_or(&self.body).clone();
        variables::require_values(&body, &self.source)?;
        let parts = self.local_parts(&body)?;
        // Nothing is uploaded for a task with mistakes.
        local_files::replace(&mut body, &parts, &FileSets::new());
        // The limit for nodes is a setting of the server.
        match TaskDefinition::parse(&body, u32::MAX) {
            Ok(_) => Ok(()),
            Err(details) => {
                let errors: Vec<FieldError> = details
                    .iter()
                    .filter_map(|detail| serde_json::from_value(serde_json::to_value(detail).ok()?).ok())
                    .collect();
                Err(Error::InvalidTask(self.report(&errors)))
            }
        }
    }

    /// The folders and files of this machine in the body of a task of this file.
    ///
    /// # Errors
    /// [`Error::InvalidTask`] if one does not exist, or cannot be where the task wants it.
    pub(super) fn local_parts(&self, body: &Value) -> Result<Vec<LocalPart>> {
        let found = local_files::find(body, self.source.is_flag(&["workdir"]), &Here::current()?);
        found.map_err(|faults| {
            let show = |(key, reason): &(Vec<String>, String)| Report::value_error(&self.source, key, reason);
            Error::InvalidTask(Report::joined(faults.iter().map(show)))
        })
    }

    /// A `workdir` of the file that is a folder of the container, and exists here, too.
    pub(super) fn mistaken_workdir(&self) -> Option<String> {
        let workdir = local_files::written_workdir(&self.body)?;
        let is_flag = self.source.is_flag(&["workdir"]);
        (!is_flag && local_files::is_probably_here(&workdir)).then_some(workdir)
    }

    /// Shows errors from the server at their locations in the file.
    pub(crate) fn report(&self, errors: &[FieldError]) -> Report {
        // The server knows the file sets, and the file the folders that they were made of.
        let parts = self.local_parts(&self.body).unwrap_or_default();
        let in_file = |error: &FieldError| {
            let path = error.path();
            match local_files::key_of(&path, &parts) {
                Some(key) => error.at(key),
                None => error.at(&self.as_written(path)),
            }
        };
        let errors: Vec<FieldError> = errors.iter().map(in_file).collect();
        Report::field_errors(&self.source, &errors)
    }

    /// The path to a value as the file writes it: the server fills the variables of `envs` into the keys of mounts.
    fn as_written(&self, mut path: Vec<String>) -> Vec<String> {
        if let [map, key, ..] = path.as_mut_slice()
            && let Some(entries) = self.body[map.as_str()].as_object()
            && !entries.contains_key(key.as_str())
            && let Some(written) = entries.keys().find(|written| fill_text(written, &self.body) == *key)
        {
            key.clone_from(written);
        }
        path
    }

    /// Shows an error in the value at a path.
    pub(crate) fn report_value(&self, key: &[impl AsRef<str>], message: &str) -> Report {
        Report::value_error(&self.source, key, message)
    }

    /// The body of the submit request.
    pub(crate) fn body(&self) -> &Value {
        &self.body
    }

    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The name, for messages, and the text of a file; `-` is standard input.
pub(super) fn read_file(path: &Path) -> Result<(String, String)> {
    if path == Path::new("-") {
        return Ok(("standard input".to_owned(), read_text(path, std::io::stdin())?));
    }
    if let Some(message) = not_a_task_file(path) {
        return Err(Error::Usage(message));
    }
    let file = std::fs::File::open(path).map_err(Error::file(FileAction::Read, path))?;
    Ok((path.display().to_string(), read_text(path, file)?))
}

/// The name for a task that runs a command: its program or, for an interpreter, the script, e.g., `train.py`.
fn name_of_command(script: &str) -> Option<String> {
    const INTERPRETERS: [&str; 8] = ["python", "python3", "bash", "sh", "uv", "torchrun", "env", "time"];
    let base = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let words = shlex::split(script)?;
    let program = base(words.first()?);
    let is_file = |word: &&String| !word.starts_with('-') && word.contains('.') && !word.contains(char::is_whitespace);
    let name = match words[1..].iter().find(is_file) {
        Some(file) if INTERPRETERS.contains(&program.as_str()) => base(file),
        _ => program,
    };
    task::Name::new(&name).map(|name| name.to_string())
}

/// Removes the known keys that are null at the top level, in `resources`, and in mounts, where null means absent in a
/// task file. The API rejects some of them. An unknown key stays, and is reported.
fn without_nulls(mut document: YamlDocument) -> YamlDocument {
    fn remove_nulls(value: &mut Value, is_known: impl Fn(&str) -> bool) {
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|key, field| !field.is_null() || !is_known(key));
        }
    }
    remove_nulls(&mut document.value, |key| TASK.key(key).is_some());
    for section in [&RESOURCES, &CONFIG] {
        if let Some(part) = document.value.get_mut(section.path) {
            remove_nulls(part, |key| section.key(key).is_some());
        }
    }
    for (map, keys) in MOUNT_KEYS {
        if let Some(Value::Object(mounts)) = document.value.get_mut(map) {
            mounts
                .values_mut()
                .for_each(|mount| remove_nulls(mount, |key| keys.contains(&key)));
        }
    }
    document
}

/// What to type instead, if the argument is a script or a command and not a task file.
fn not_a_task_file(path: &Path) -> Option<String> {
    let name = path.display().to_string();
    let quoted = shlex::try_quote(&name).ok()?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let command = match extension {
        Some("yaml" | "yml" | "json") => return None,
        Some("py") => format!("python3 {quoted}"),
        Some("sh") => format!("bash {quoted}"),
        _ if path.exists() => return None,
        _ => quoted.to_string(),
    };
    let reason = if path.exists() {
        "is not a task file"
    } else {
        "does not exist"
    };
    Some(format!(
        "`{name}` {reason}; to run a command, use `k8s-cli jobs submit -- {command}`"
    ))
}

fn read_text(path: &Path, reader: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let limited = reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    limited.map_err(Error::file(FileAction::Read, path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::Usage(format!(
            "`{}` exceeds {MAX_FILE_BYTES} bytes; check that it is a task file",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|_| Error::Usage(format!("`{}` is not valid UTF-8", path.display())))
}
