//! Reads, parses, and validates the task to submit.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use task::TaskDefinition;

use super::document::YamlDocument;
use super::overrides::Overrides;
use super::variables;
use crate::error::{Error, FileAction, Result};
use crate::field_error::FieldError;
use crate::report::{Report, TaskSource};

/// Maximum size of a task file; the same as that of a request to the server.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct TaskFile {
    body: Value,
    source: TaskSource,
    warnings: Vec<String>,
}

impl TaskFile {
    /// Reads and parses a file; `-` is standard input.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let (name, text) = if path == Path::new("-") {
            ("standard input".to_owned(), read_text(path, std::io::stdin())?)
        } else {
            let file = std::fs::File::open(path).map_err(Error::file(FileAction::Read, path))?;
            (path.display().to_string(), read_text(path, file)?)
        };
        Self::parse(name, text)
    }

    /// Parses the text of a file; `name` is used in messages.
    pub(crate) fn parse(name: String, text: String) -> Result<Self> {
        let document = match YamlDocument::parse(&text) {
            Ok(document) => document,
            Err(error) => {
                return Err(Error::InvalidTask(Report::parse_error(
                    name,
                    text,
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

    /// A task that runs a command. A single argument with spaces is a line of bash, as with `ssh` and `sky`, because no
    /// program has such a name.
    pub(crate) fn from_command(words: &[String]) -> Result<Self> {
        if let [line] = words
            && line.contains(char::is_whitespace)
        {
            return Ok(Self::from_script(line));
        }
        let script = shlex::try_join(words.iter().map(String::as_str))
            .map_err(|_| Error::Usage("the command must not contain NUL characters".to_owned()))?;
        Ok(Self::from_script(&script))
    }

    fn from_script(script: &str) -> Self {
        Self {
            body: json!({ "run": script }),
            source: TaskSource::command(),
            warnings: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, overrides: &Overrides) -> Result<()> {
        overrides.apply(&mut self.body, &mut self.source)
    }

    /// Validates the task with the same rules as the server, as far as that is possible locally. Reports all errors
    /// together.
    pub(crate) fn validate(&mut self) -> Result<()> {
        variables::require_values(&self.body, &self.source)?;
        // The limit for nodes is a setting of the server.
        match TaskDefinition::parse(&self.body, u32::MAX) {
            Ok(definition) => {
                self.warnings.extend(unsynced_workdir_warning(&definition));
                Ok(())
            }
            Err(details) => {
                let errors: Vec<FieldError> = details
                    .iter()
                    .filter_map(|detail| serde_json::from_value(serde_json::to_value(detail).ok()?).ok())
                    .collect();
                Err(Error::InvalidTask(self.report(&errors)))
            }
        }
    }

    /// Shows errors from the server at their locations in the file.
    pub(crate) fn report(&self, errors: &[FieldError]) -> Report {
        Report::field_errors(&self.source, errors)
    }

    /// The body of the submit request.
    pub(crate) fn body(&self) -> &Value {
        &self.body
    }

    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Warns about a relative `workdir`: SkyPilot copies that directory to the nodes, but k8s-cli does not.
fn unsynced_workdir_warning(definition: &TaskDefinition) -> Option<String> {
    let workdir = definition.workdir.as_deref()?;
    let is_relative = !workdir.starts_with('/') && !workdir.starts_with('$');
    is_relative.then(|| format!("`workdir: {workdir}` is a directory on the node; local files are not copied to it"))
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
