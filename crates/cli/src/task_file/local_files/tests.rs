//! Which folders and files of this machine are found in a task.

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
