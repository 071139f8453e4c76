//! Which folders and files of this machine a task copies, and where the request names their file sets.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use task::definition::fill_text;

use crate::error::{Error, Result};
use crate::output::escape_line;

/// The target of `workdir`: the folder in which `setup` and `run` start.
const WORKING_FOLDER: &str = ".";

/// The other name of that folder, which SkyPilot gives it.
const SKY_WORKDIR: &str = "~/sky_workdir";

/// Stands for the ID of a file set until the files are uploaded, so that a task is validated before anything is sent.
const PLACEHOLDER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A folder or a file of this machine. The same one is uploaded once, whatever the tasks call it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LocalSource {
    /// The path without links.
    pub path: PathBuf,
    /// The name that a file gets on the nodes; `None` for a folder.
    pub file_name: Option<String>,
    /// Copy also what ignore files and defaults leave out: it is data, and no code.
    pub everything: bool,
}

/// A part of a task that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalPart {
    /// The path to the value in the task file.
    pub key: Vec<String>,
    /// The source as it is written, for messages.
    pub written: String,
    /// Where it is on the nodes.
    pub target: String,
    pub source: LocalSource,
}

/// The IDs of uploaded file sets, by what they were made of.
pub(crate) type FileSets = BTreeMap<LocalSource, String>;

/// What is wrong with a local part: the path to the value in the task file, and a message.
pub(crate) type Fault = (Vec<String>, String);

/// Where the paths of a task start.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    /// The folder of the caller, not of the task file, as in SkyPilot.
    pub folder: PathBuf,
    pub home: Option<PathBuf>,
}

impl Here {
    pub(crate) fn current() -> Result<Self> {
        let folder = std::env::current_dir()
            .map_err(|error| Error::Local(format!("cannot determine the current folder: {error}")))?;
        Ok(Self {
            folder,
            home: etcetera::home_dir().ok(),
        })
    }

    /// The place of what is written in the task file; a reason if it names none.
    fn resolve(&self, written: &str) -> Result<PathBuf, String> {
        if written.trim().is_empty() {
            return Err("the path is empty; use `.` for the current folder".to_owned());
        }
        let is_of_user = |user: &str| !user.is_empty() && !user.starts_with('/');
        let below_home = written
            .strip_prefix('~')
            .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        Ok(match (below_home, &self.home) {
            (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
            _ if written.strip_prefix('~').is_some_and(is_of_user) && !self.folder.join(written).exists() => {
                return Err(format!(
                    "`{written}`: `~USER` is not supported; write the path of the folder"
                ));
            }
            _ => self.folder.join(written),
        })
    }
}

/// Finds the local parts of a task. A `workdir` of the flag is local even if it is absolute.
///
/// # Errors
/// All parts that do not exist, or cannot be where the task wants them.
pub(crate) fn find(body: &Value, workdir_is_flag: bool, here: &Here) -> Result<Vec<LocalPart>, Vec<Fault>> {
    let mut parts = Vec::new();
    let mut faults = Vec::new();
    let mut add = |part: Result<LocalPart, Fault>| match part {
        Ok(part) => parts.push(part),
        Err(fault) => faults.push(fault),
    };
    let is_local = |text: &String| workdir_is_flag || (body["workdir"] != "" && is_local_workdir(text));
    let local_workdir = written_workdir(body).filter(is_local);
    if let Some(written) = &local_workdir {
        add(working_folder(written, workdir_is_flag, here));
    }
    for (key, source) in body["file_mounts"].as_object().into_iter().flatten() {
        if let Some(written) = source.as_str().map(|text| fill_text(text, body))
            && !written.contains("://")
        {
            add(mount(
                key,
                &fill_text(key, body),
                &written,
                local_workdir.is_some(),
                here,
            ));
        }
    }
    if faults.is_empty() { Ok(parts) } else { Err(faults) }
}

/// The `workdir` of a task if it is text, with the variables of the task filled in, as in SkyPilot.
pub(crate) fn written_workdir(body: &Value) -> Option<String> {
    body["workdir"].as_str().map(|text| fill_text(text, body))
}

/// Whether a `workdir` of a task file is a folder here. An absolute one, or one that a variable of the node begins, is a
/// folder of the container.
fn is_local_workdir(text: &str) -> bool {
    !text.starts_with(['/', '$'])
}

fn working_folder(written: &str, is_flag: bool, here: &Here) -> Result<LocalPart, Fault> {
    let key = vec!["workdir".to_owned()];
    let fault = |reason: String| (key.clone(), reason);
    let place = here.resolve(written).map_err(fault)?;
    let written = &escape_line(written);
    let path = match place.canonicalize() {
        Ok(path) if path.is_dir() => not_too_wide(path, written, here).map_err(fault)?,
        Ok(_) => return Err(fault(format!("`{written}` is not a folder"))),
        Err(error) => {
            let reason = missing(written, &error, here);
            return Err(fault(if is_flag {
                reason
            } else {
                format!("{reason}; only an absolute path is a folder of the container")
            }));
        }
    };
    Ok(LocalPart {
        key,
        written: written.to_owned(),
        target: WORKING_FOLDER.to_owned(),
        source: LocalSource {
            path,
            file_name: None,
            everything: false,
        },
    })
}

fn mount(key: &str, target: &str, written: &str, has_workdir: bool, here: &Here) -> Result<LocalPart, Fault> {
    let key = vec!["file_mounts".to_owned(), key.to_owned()];
    let fault = |reason: String| (key.clone(), reason);
    if target.ends_with('/') {
        return Err(fault(format!(
            "the path `{target}` must not end with `/`; it names the file or folder itself"
        )));
    }
    if has_workdir && [WORKING_FOLDER, SKY_WORKDIR].contains(&target) {
        return Err(fault(format!(
            "`{target}` is the folder of `workdir`; remove one of them, or use a path in it, e.g., `{SKY_WORKDIR}/data`"
        )));
    }
    let path = here.resolve(written).map_err(fault)?.canonicalize();
    let written = &escape_line(written);
    let path = path.map_err(|error| fault(missing(written, &error, here)))?;
    let path = not_too_wide(path, written, here).map_err(fault)?;
    let name = target.rsplit('/').next().unwrap_or(target);
    let file_name = (!path.is_dir()).then(|| name.to_owned());
    if file_name.is_some() && [".", "..", "~", ""].contains(&name) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let file = escape_line(&file);
        return Err(fault(format!(
            "`{target}` is a folder, and `{written}` a file; use the path of a file, e.g., `{target}/{file}`"
        )));
    }
    Ok(LocalPart {
        key,
        written: written.to_owned(),
        target: target.to_owned(),
        source: LocalSource {
            path,
            file_name,
            everything: false,
        },
    })
}

/// Refuses folders that hold what nobody means to copy, such as the keys of a user.
fn not_too_wide(path: PathBuf, written: &str, here: &Here) -> Result<PathBuf, String> {
    let home = here.home.as_deref().and_then(|home| home.canonicalize().ok());
    let what = if path.parent().is_none() {
        "is the whole file system"
    } else if home.as_ref() == Some(&path) {
        "is your home folder"
    } else if home.is_some_and(|home| home.starts_with(&path)) {
        "contains your home folder"
    } else {
        return Ok(path);
    };
    Err(format!("`{written}` {what}; choose a folder in it"))
}

/// Whether an absolute `workdir` of a task file is a folder of this user here, so that they may mean this one.
pub(crate) fn is_probably_here(workdir: &str) -> bool {
    let path = Path::new(workdir);
    // Folders such as `/tmp` are everywhere.
    let is_specific = path.is_absolute() && path.components().count() > 2;
    let is_ours =
        |metadata: std::fs::Metadata| metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
    is_specific && path.metadata().is_ok_and(is_ours)
}

/// Why a path cannot be resolved.
fn missing(written: &str, error: &std::io::Error, here: &Here) -> String {
    if error.kind() != std::io::ErrorKind::NotFound {
        return format!("cannot read `{written}`: {error}");
    }
    let place = if Path::new(written).is_absolute() || written.starts_with('~') {
        String::new()
    } else {
        format!(" in `{}`", escape_line(&here.folder.display().to_string()))
    };
    let variable = if written.contains('$') {
        "; only variables of `envs` are filled in"
    } else {
        ""
    };
    format!("`{written}` does not exist{place}{variable}")
}

/// Puts file sets in the place of the local parts of a task: in `files`, by target.
pub(crate) fn replace(body: &mut Value, parts: &[LocalPart], sets: &FileSets) {
    let Some(fields) = body.as_object_mut().filter(|_| !parts.is_empty()) else {
        return;
    };
    let is_workdir = |part: &LocalPart| part.key.len() == 1;
    if parts.iter().any(is_workdir) {
        fields.retain(|key, _| key != "workdir");
    }
    if let Some(Value::Object(mounts)) = fields.get_mut("file_mounts") {
        mounts.retain(|target, _| !parts.iter().any(|part| part.key.get(1) == Some(target)));
        if mounts.is_empty() {
            fields.retain(|key, _| key != "file_mounts");
        }
    }
    let files = fields.entry("files").or_insert_with(|| json!({}));
    // Anything other than a map is reported when the task is validated.
    if let Some(files) = files.as_object_mut() {
        for part in parts {
            let id = sets.get(&part.source).map_or(PLACEHOLDER, String::as_str);
            let set = match &part.source.file_name {
                Some(name) => format!("{id}/{name}"),
                None => id.to_owned(),
            };
            files.insert(part.target.clone(), json!(set));
        }
    }
}

/// The path in the task file of a value in `files`, which [`replace`] has made.
pub(crate) fn key_of<'p>(path: &[String], parts: &'p [LocalPart]) -> Option<&'p [String]> {
    let (first, rest) = path.split_first()?;
    let is_named = |part: &&LocalPart| rest.first().is_none_or(|target| part.target == *target);
    let part = parts.iter().find(is_named).filter(|_| first == "files")?;
    Some(&part.key)
}

#[cfg(test)]
mod tests;
