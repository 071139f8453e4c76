//! The task to submit, from a YAML file, standard input, or a command, with overrides from flags.

mod document;
mod overrides;
mod report;
mod variables;

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};
use task::TaskDefinition;

pub use overrides::Overrides;
pub use report::Report;

use self::document::Document;
use self::report::Origin;
use crate::error::{Error, Fault, Result};

/// Maximum size of a task file; the same as that of a request to the server.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Debug)]
pub struct TaskFile {
    body: Value,
    origin: Origin,
    warnings: Vec<String>,
}

impl TaskFile {
    /// Reads and parses a file; `-` is standard input.
    pub fn read(path: &Path) -> Result<Self> {
        let (name, text) = if path == Path::new("-") {
            ("standard input".to_owned(), read_text(path, std::io::stdin())?)
        } else {
            let file = std::fs::File::open(path).map_err(|source| unreadable(path, source))?;
            (path.display().to_string(), read_text(path, file)?)
        };
        Self::parse(name, text)
    }

    /// Parses the text of a file; `name` is used in messages.
    pub fn parse(name: String, text: String) -> Result<Self> {
        let document = match Document::parse(&text) {
            Ok(document) => document,
            Err(mistake) => return Err(Error::Task(Report::mistake(name, text, &mistake))),
        };
        let Document {
            value,
            places,
            differing,
        } = document;
        let warnings = differing
            .into_iter()
            .map(|scalar| {
                format!("`{scalar}` is kept as written, but SkyPilot reads it as a different value; quote it")
            })
            .collect();
        Ok(Self {
            body: value,
            origin: Origin::file(name, text, places),
            warnings,
        })
    }

    /// A task that runs a command. A single argument with spaces is a line of bash, as with `ssh` and `sky`, because no
    /// program has such a name.
    pub fn command(words: &[String]) -> Result<Self> {
        if let [line] = words
            && line.contains(char::is_whitespace)
        {
            return Ok(Self::of_run(line));
        }
        let run = shlex::try_join(words.iter().map(String::as_str))
            .map_err(|_| Error::Usage("the command must not contain NUL characters".to_owned()))?;
        Ok(Self::of_run(&run))
    }

    fn of_run(run: &str) -> Self {
        Self {
            body: json!({ "run": run }),
            origin: Origin::command(),
            warnings: Vec::new(),
        }
    }

    pub fn apply(&mut self, overrides: &Overrides) -> Result<()> {
        overrides.apply(&mut self.body, &mut self.origin)
    }

    /// Validates the task with the same rules as the server, as far as that is possible locally. Reports all errors
    /// together.
    pub fn check(&mut self) -> Result<()> {
        variables::all_have_values(&self.body, &self.origin)?;
        // The limit for nodes is a setting of the server.
        match TaskDefinition::parse(&self.body, u32::MAX) {
            Ok(definition) => {
                self.warnings.extend(unsynced_folder(&definition));
                Ok(())
            }
            Err(details) => {
                let faults: Vec<Fault> = details
                    .iter()
                    .filter_map(|detail| serde_json::from_value(serde_json::to_value(detail).ok()?).ok())
                    .collect();
                Err(Error::Task(self.report(&faults)))
            }
        }
    }

    /// Shows errors from the server at their locations in the file.
    pub fn report(&self, faults: &[Fault]) -> Report {
        Report::faults(&self.origin, faults)
    }

    /// The body of the submit request.
    pub fn body(&self) -> &Value {
        &self.body
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Warns about a relative `workdir`: SkyPilot copies that directory to the nodes, but k8s-cli does not.
fn unsynced_folder(definition: &TaskDefinition) -> Option<String> {
    let workdir = definition.workdir.as_deref()?;
    let relative = !workdir.starts_with('/') && !workdir.starts_with('$');
    relative.then(|| format!("`workdir: {workdir}` is a directory on the node; local files are not copied to it"))
}

fn read_text(path: &Path, from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let limited = from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    limited.map_err(|source| unreadable(path, source))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::Usage(format!(
            "`{}` exceeds {MAX_FILE_BYTES} bytes; check that it is a task file",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|_| Error::Usage(format!("`{}` is not valid UTF-8", path.display())))
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    }
}

/// The object at `key`, created if missing; `None` if the value is not an object. Validation then reports it.
fn object<'a>(body: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = body.as_object_mut()?.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests;
