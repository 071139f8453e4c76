//! Environment variables of a task from flags and files, and those that still need a value.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report::{Origin, Report};
use crate::error::{Error, Result};

/// Name, value and flag of each variable that flags set, later ones winning.
///
/// # Errors
/// A file cannot be read, or a variable is not set here.
pub fn from_flags(files: &[PathBuf], flags: &[String]) -> Result<Vec<(String, String, String)>> {
    let mut variables = Vec::new();
    for path in files {
        for (name, value) in of_file(path)? {
            variables.push((name, value, format!("--env-file {}", path.display())));
        }
    }
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (flag.clone(), own(flag)?),
        };
        // The value may be a secret.
        let origin = format!("--env {name}");
        variables.push((name, value, origin));
    }
    Ok(variables)
}

fn of_file(path: &Path) -> Result<Vec<(String, String)>> {
    let unreadable = |error: dotenvy::Error| match error {
        dotenvy::Error::Io(source) => Error::File {
            action: "read",
            path: path.to_owned(),
            source,
        },
        other => Error::Usage(format!("`--env-file {}`: {other}", path.display())),
    };
    let variables = dotenvy::from_path_iter(path).map_err(unreadable)?;
    variables.collect::<Result<_, _>>().map_err(unreadable)
}

fn own(name: &str) -> Result<String> {
    std::env::var(name).map_err(|error| match error {
        std::env::VarError::NotPresent => Error::Usage(format!(
            "`--env {name}`: `{name}` is not set here; give a value with `--env {name}=VALUE`"
        )),
        std::env::VarError::NotUnicode(_) => Error::Usage(format!("`--env {name}`: its value is not UTF-8 text")),
    })
}

/// As in SkyPilot, a variable without a value must get one when the task is submitted.
///
/// # Errors
/// One has none.
pub fn all_have_values(body: &Value, origin: &Origin) -> Result<()> {
    let Some(envs) = body["envs"].as_object() else {
        return Ok(());
    };
    for (name, value) in envs {
        if value.is_null() {
            let message = format!("has no value; give one with `--env {name}=VALUE`, or yours with `--env {name}`");
            return Err(Error::Task(Report::fault(origin, &["envs", name], &message)));
        }
    }
    Ok(())
}
