//! The task that a person wrote: a YAML file, standard input or a command, and what flags change about it.

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

/// The largest file that is read; a server takes 4 MiB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A task that can be submitted.
#[derive(Debug)]
pub struct TaskFile {
    body: Value,
    origin: Origin,
    warnings: Vec<String>,
}

impl TaskFile {
    /// Reads a file; `-` is standard input.
    ///
    /// # Errors
    /// It cannot be read, or is no YAML with one task.
    pub fn read(path: &Path) -> Result<Self> {
        let (name, text) = if path == Path::new("-") {
            ("standard input".to_owned(), read_text(path, std::io::stdin())?)
        } else {
            let file = std::fs::File::open(path).map_err(|source| unreadable(path, source))?;
            (path.display().to_string(), read_text(path, file)?)
        };
        Self::parse(name, text)
    }

    /// A file whose text is known.
    ///
    /// # Errors
    /// It is no YAML with one task.
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
                format!("`{scalar}` is taken as it is written; SkyPilot reads it as another value, so put it in quotes")
            })
            .collect();
        Ok(Self {
            body: value,
            origin: Origin::file(name, text, places),
            warnings,
        })
    }

    /// A task that runs one command. A single word with spaces in it is a line of bash, as with `ssh` and `sky`: no program is
    /// called like that.
    ///
    /// # Errors
    /// A NUL character cannot be passed to a process.
    pub fn command(words: &[String]) -> Result<Self> {
        if let [line] = words
            && line.contains(char::is_whitespace)
        {
            return Ok(Self::of_run(line));
        }
        let run = shlex::try_join(words.iter().map(String::as_str)).map_err(|_| {
            Error::Usage("the command has a NUL character, which cannot be passed to a process".to_owned())
        })?;
        Ok(Self::of_run(&run))
    }

    fn of_run(run: &str) -> Self {
        Self {
            body: json!({ "run": run }),
            origin: Origin::command(),
            warnings: Vec::new(),
        }
    }

    /// Changes what flags say otherwise.
    ///
    /// # Errors
    /// A flag cannot be understood.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<()> {
        overrides.apply(&mut self.body, &mut self.origin)
    }

    /// Checks what can be checked without the server, as the server will.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&mut self) -> Result<()> {
        variables::all_have_values(&self.body, &self.origin)?;
        // The server knows how many nodes it allows.
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

    /// The server's faults at their places in the file.
    pub fn report(&self, faults: &[Fault]) -> Report {
        Report::faults(&self.origin, faults)
    }

    /// What is sent to the server.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// What the person should know although nothing is wrong.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// SkyPilot copies a local working folder to the nodes; here a person who relies on it must be told.
fn unsynced_folder(definition: &TaskDefinition) -> Option<String> {
    let workdir = definition.workdir.as_deref()?;
    let relative = !workdir.starts_with('/') && !workdir.starts_with('$');
    relative
        .then(|| format!("`workdir: {workdir}` is a folder of the node; files of this machine are not copied to it"))
}

fn read_text(path: &Path, from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let limited = from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    limited.map_err(|source| unreadable(path, source))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::Usage(format!(
            "`{}` has more than {MAX_FILE_BYTES} bytes; is it a task file?",
            path.display()
        )));
    }
    String::from_utf8(bytes).map_err(|_| Error::Usage(format!("`{}` is not UTF-8 text", path.display())))
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    }
}

/// The object below `key`, made if it is absent; `None` when something else is there.
fn object<'a>(body: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = body.as_object_mut()?.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

#[cfg(test)]
mod tests;
