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
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::{FileSets, Here, find, is_probably_here, key_of, replace};

    /// A folder with `code/`, `code/train.py`, and a home with `data/`.
    fn machine() -> (TempDir, Here) {
        let root = tempfile::tempdir().unwrap();
        for folder in ["here/code", "home/data"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        fs::write(root.path().join("here/code/train.py"), "x").unwrap();
        let here = Here {
            folder: root.path().join("here"),
            home: Some(root.path().join("home")),
        };
        (root, here)
    }

    /// The targets and the paths of the local parts of a task, relative to the machine's root.
    fn parts(body: &Value, is_flag: bool) -> Vec<(String, String)> {
        let (root, here) = machine();
        let root = root.path().canonicalize().unwrap();
        let parts = find(body, is_flag, &here).unwrap();
        let shown = |path: &std::path::Path| path.strip_prefix(&root).unwrap().display().to_string();
        parts
            .iter()
            .map(|part| (part.target.clone(), shown(&part.source.path)))
            .collect()
    }

    fn workdir(text: &str) -> Vec<(String, String)> {
        parts(&json!({"workdir": text}), false)
    }

    fn faults(body: &Value) -> Vec<String> {
        let (_root, here) = machine();
        let faults = find(body, false, &here).unwrap_err();
        let hide = |text: String| text.replace(&here.folder.display().to_string(), "HERE");
        faults
            .into_iter()
            .map(|(key, reason)| hide(format!("{}: {reason}", key.join("."))))
            .collect()
    }

    #[test]
    fn a_relative_workdir_is_here_and_an_absolute_one_in_the_container() {
        let at = |path: &str| vec![(".".to_owned(), path.to_owned())];
        assert_eq!(workdir("."), at("here"));
        assert_eq!(workdir("code/"), at("here/code"));
        assert_eq!(workdir("../home/data"), at("home/data"));
        assert_eq!(workdir("~/data"), at("home/data"));
        for text in ["/", "/code", "$HOME/code", "${X}"] {
            assert_eq!(workdir(text), [], "{text}");
        }
        let filled = |value: &str| parts(&json!({"workdir": "$D", "envs": {"D": value}}), false);
        assert_eq!(filled("code"), at("here/code"));
        assert_eq!(filled("~/data"), at("home/data"));
        for value in ["/code", "$HOME/code"] {
            assert_eq!(filled(value), [], "{value}");
        }
        for body in [
            json!({"workdir": {"url": "https://x"}}),
            json!({"workdir": ["."]}),
            json!({"workdir": ""}),
        ] {
            assert_eq!(parts(&body, false), [], "{body}");
        }
    }

    #[test]
    fn an_absolute_workdir_of_the_flag_is_here() {
        let (root, here) = machine();
        let code = root.path().join("here/code");
        let parts = find(&json!({"workdir": code}), true, &here).unwrap();
        assert_eq!(parts[0].source.path, code.canonicalize().unwrap());
    }

    #[test]
    fn sources_of_mounts_that_are_no_addresses_are_here_with_variables_filled_in() {
        let body = json!({"envs": {"WHAT": "code", "N": 1}, "file_mounts": {
            "/a": "s3://x", "/b": {"name": "volume"}, "/c/$N": "./${WHAT}", "~/t.py": "$WHAT/train.py", "/d": "~/data",
        }});
        let found = parts(&body, false);
        let expected = [
            ("/c/1", "here/code"),
            ("~/t.py", "here/code/train.py"),
            ("/d", "home/data"),
        ];
        assert_eq!(
            found,
            expected.map(|(target, path)| (target.to_owned(), path.to_owned()))
        );
    }

    #[test]
    fn what_does_not_exist_or_has_no_place_is_a_fault_of_its_key() {
        assert_eq!(
            faults(&json!({"workdir": "missing", "file_mounts": {"/a": "$NO/x", "/b": "/no/such", "/c/": "code"}})),
            [
                "workdir: `missing` does not exist in `HERE`; only an absolute path is a folder of the container",
                "file_mounts./a: `$NO/x` does not exist in `HERE`; only variables of `envs` are filled in",
                "file_mounts./b: `/no/such` does not exist",
                "file_mounts./c/: the path `/c/` must not end with `/`; it names the file or folder itself",
            ]
        );
        assert_eq!(
            faults(&json!({"workdir": "code/train.py"})),
            ["workdir: `code/train.py` is not a folder"]
        );
        assert_eq!(
            faults(&json!({"workdir": ".", "file_mounts": {"~/sky_workdir": "code"}})),
            [
                "file_mounts.~/sky_workdir: `~/sky_workdir` is the folder of `workdir`; remove one of them, or use a path in it, \
              e.g., `~/sky_workdir/data`"
            ]
        );
    }

    #[test]
    fn the_home_and_what_contains_it_are_refused() {
        let (root, here) = machine();
        let top = root.path().display().to_string();
        let refused = |text: &str| {
            let workdir = find(&json!({"workdir": text}), true, &here).unwrap_err();
            let mount = find(&json!({"file_mounts": {"/a": text}}), false, &here).unwrap_err();
            assert_eq!(workdir[0].1, mount[0].1);
            workdir[0].1.clone()
        };
        assert_eq!(refused("/"), "`/` is the whole file system; choose a folder in it");
        assert_eq!(refused("~"), "`~` is your home folder; choose a folder in it");
        assert_eq!(
            refused("../home/data/.."),
            "`../home/data/..` is your home folder; choose a folder in it"
        );
        assert_eq!(
            refused(&top),
            format!("`{top}` contains your home folder; choose a folder in it")
        );
        assert_eq!(parts(&json!({"workdir": "~/data"}), false).len(), 1);
    }

    #[test]
    fn an_empty_path_is_not_the_current_folder_and_another_home_is_not_a_name() {
        let (_root, here) = machine();
        let fault = |body: &Value| find(body, true, &here).unwrap_err()[0].1.clone();
        let empty = "the path is empty; use `.` for the current folder";
        assert_eq!(fault(&json!({"workdir": ""})), empty);
        for of_variable in [json!({"file_mounts": {"/a": "$X"}}), json!({"workdir": "$X"})] {
            let mut body = of_variable;
            body["envs"] = json!({"X": ""});
            assert_eq!(fault(&body), empty);
        }
        assert_eq!(
            fault(&json!({"workdir": "~alice/code"})),
            "`~alice/code`: `~USER` is not supported; write the path of the folder"
        );
        fs::create_dir(here.folder.join("~backup")).unwrap();
        assert_eq!(find(&json!({"workdir": "~backup"}), true, &here).unwrap().len(), 1);
    }

    #[test]
    fn a_file_is_not_in_the_place_of_a_folder() {
        let at = |target: &str| faults(&json!({"file_mounts": {target: "./code/train.py"}})).remove(0);
        assert_eq!(
            at("."),
            "file_mounts..: `.` is a folder, and `./code/train.py` a file; use the path of a file, e.g., `./train.py`"
        );
        assert!(at("~").contains("e.g., `~/train.py`"));
    }

    #[test]
    fn an_absolute_workdir_that_is_here_too_is_probably_meant() {
        let (root, _here) = machine();
        assert!(is_probably_here(root.path().join("here").to_str().unwrap()));
        for elsewhere in ["/tmp", "/", "code", "/no/such/folder", "/etc/passwd"] {
            assert!(!is_probably_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn file_sets_take_the_place_of_local_parts() {
        let (_root, here) = machine();
        let task = json!({"workdir": "code", "run": "x", "file_mounts": {
            "~/t": "code/train.py", "/v": {"name": "volume"}, "/code": "./code/.",
        }});
        let parts = find(&task, false, &here).unwrap();
        let sets: FileSets = parts
            .iter()
            .map(|part| (part.source.clone(), format!("{:?}", part.source.file_name)))
            .collect();
        assert_eq!(sets.len(), 2, "the folder is uploaded once");
        let mut body = task.clone();
        replace(&mut body, &parts, &sets);
        assert_eq!(
            body,
            json!({"run": "x", "file_mounts": {"/v": {"name": "volume"}},
                "files": {".": "None", "~/t": "Some(\"t\")/t", "/code": "None"}})
        );
        let mut placeholder = json!({"workdir": ".", "run": "x"});
        let parts = find(&placeholder, false, &here).unwrap();
        replace(&mut placeholder, &parts, &FileSets::new());
        assert_eq!(placeholder, json!({"run": "x", "files": {".": "0".repeat(64)}}));
        let mut container = json!({"workdir": "/code", "run": "x"});
        replace(&mut container, &[], &FileSets::new());
        assert_eq!(container, json!({"workdir": "/code", "run": "x"}));
    }

    #[test]
    fn a_fault_of_a_file_set_is_one_of_the_key_that_names_it() {
        let (_root, here) = machine();
        let parts = find(&json!({"workdir": ".", "file_mounts": {"/a": "code"}}), false, &here).unwrap();
        let key = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(|step| (*step).to_owned()).collect();
            key_of(&path, &parts).map(|key| key.join("."))
        };
        assert_eq!(key(&["files", "."]).unwrap(), "workdir");
        assert_eq!(key(&["files", "/a"]).unwrap(), "file_mounts./a");
        assert_eq!(key(&["files"]).unwrap(), "workdir");
        assert_eq!(key(&["files", "/other"]), None);
        assert_eq!(key(&["run"]), None);
    }
}
