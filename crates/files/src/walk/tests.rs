//! What is copied of a folder, what is left out, and what is refused before any file is read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{FileType as NodeType, Mode as NodeMode, mknodat};
use tempfile::TempDir;

use super::{EntryPath, Folder, IgnoreRules, LeftOut, Limits, Selection, Unfit, Walk, Walker};
use crate::error::Error;
use crate::left_out::IgnoreFile;

const WALK: Walk = Walk {
    limits: Limits {
        max_entries: 1000,
        max_total_bytes: 1 << 20,
        max_manifest_bytes: 1 << 20,
    },
    everything: false,
};

/// A folder with these files, and their text. A name that ends in `/` is an empty folder.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    dir
}

fn taken(selection: &Selection) -> Vec<String> {
    selection.entries().iter().map(|entry| entry.path.to_string()).collect()
}

#[track_caller]
fn takes(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(taken(&WALK.folder(folder(files).path()).unwrap()), expected);
}

#[track_caller]
fn refused(dir: &Path, name: &str) -> String {
    let error = WALK.folder(dir).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
    error
}

#[test]
fn hidden_files_and_empty_folders_are_copied_in_order() {
    let files = [("b/.env", ""), ("b-c", ""), (".hidden/x", ""), ("empty/", "")];
    takes(&files, &[".hidden", ".hidden/x", "b", "b/.env", "b-c", "empty"]);
}

#[test]
fn gitignore_files_hold_in_their_folders_outside_of_a_repository() {
    let files = [
        (".gitignore", "*.log\n/only-root\nbuild/\n"),
        ("a.log", ""),
        ("only-root", ""),
        ("build/x", ""),
        ("sub/.gitignore", "!keep.log\n*.tmp\n"),
        ("sub/keep.log", ""),
        ("sub/other.log", ""),
        ("sub/only-root", ""),
        ("sub/x.tmp", ""),
        ("x.tmp", ""),
    ];
    let expected = [
        ".gitignore",
        "sub",
        "sub/.gitignore",
        "sub/keep.log",
        "sub/only-root",
        "x.tmp",
    ];
    takes(&files, &expected);
    assert_eq!(
        WALK.folder(folder(&files).path())
            .unwrap()
            .left_out()
            .by_patterns
            .to_string(),
        "`a.log`, `build/`, `only-root` and 2 more"
    );
}

#[test]
fn ignore_files_above_the_folder_do_not_hold() {
    let dir = folder(&[(".gitignore", "*"), (".skyignore", "*"), ("in/x", "")]);
    assert_eq!(taken(&WALK.folder(&dir.path().join("in")).unwrap()), ["x"]);
}

#[test]
fn a_skyignore_replaces_all_gitignores() {
    let files = [
        (".skyignore", "# data\n/data\n"),
        (".gitignore", "*.pt\n"),
        ("data/x", ""),
        ("model.pt", ""),
        ("sub/.gitignore", "*"),
        ("sub/.skyignore", "*"),
        ("sub/data", ""),
    ];
    let expected = [
        ".gitignore",
        ".skyignore",
        "model.pt",
        "sub",
        "sub/.gitignore",
        "sub/.skyignore",
        "sub/data",
    ];
    takes(&files, &expected);
}

#[test]
fn what_git_ignores_and_a_skyignore_does_not_is_named() {
    let files = [
        (".skyignore", "*.log\n"),
        (".gitignore", ".env\n*.log\n/keys/\n"),
        (".env", ""),
        ("a.log", ""),
        ("keys/private", ""),
        ("keys/.gitignore", "*\n"),
        ("sub/.env", ""),
    ];
    let dir = folder(&files);
    let selection = WALK.folder(dir.path()).unwrap();
    let left_out = selection.left_out();
    assert_eq!(left_out.ignore_file, IgnoreFile::Skyignore);
    assert_eq!(left_out.ignored_by_git_only.to_string(), "`.env`, `keys/`, `sub/.env`");
    assert_eq!(left_out.by_patterns.to_string(), "`a.log`");
    fs::remove_file(dir.path().join(".skyignore")).unwrap();
    let selection = WALK.folder(dir.path()).unwrap();
    let left_out = selection.left_out();
    assert_eq!(left_out.ignore_file, IgnoreFile::Gitignore);
    assert_eq!(left_out.ignored_by_git_only.count(), 0);
    assert_eq!(left_out.by_patterns.to_string(), "`.env`, `a.log`, `keys/` and 1 more");
}

#[test]
fn a_repository_above_says_what_is_left_out() {
    let dir = folder(&[
        (".git/info/exclude", "notes\n"),
        (".gitignore", ".env\n"),
        ("in/.env", ""),
        ("in/notes", ""),
        ("in/x", ""),
    ]);
    assert_eq!(taken(&WALK.folder(&dir.path().join("in")).unwrap()), ["x"]);
}

#[test]
fn nothing_waits_for_a_fifo_in_the_place_of_a_mark_or_an_ignore_file() {
    let dir = folder(&[("a/x", ""), ("b/x", "")]);
    for name in ["a/CACHEDIR.TAG", "b/.gitignore"] {
        mknodat(
            rustix::fs::CWD,
            dir.path().join(name),
            NodeType::Fifo,
            NodeMode::RUSR,
            0,
        )
        .unwrap();
    }
    fs::write(dir.path().join(".gitignore"), "CACHEDIR.TAG\n/b/.gitignore\n").unwrap();
    assert_eq!(
        taken(&WALK.folder(dir.path()).unwrap()),
        [".gitignore", "a", "a/x", "b", "b/x"]
    );
}

#[test]
fn an_ignore_file_that_is_none_by_its_size_is_refused() {
    let dir = folder(&[("x", "")]);
    fs::write(dir.path().join(".gitignore"), "x\n".repeat(600_000)).unwrap();
    refused(dir.path(), ".gitignore`: it has more than 1 MiB");
}

#[test]
fn environments_and_caches_are_left_out_unless_a_pattern_names_them() {
    let mut files = vec![
        (".git/config", ""),
        ("sub/node_modules/x", ""),
        ("node_modules/x", ""),
        ("venv/pyvenv.cfg", ""),
        ("my-env/pyvenv.cfg", ""),
        (".venv/x", ""),
        ("sub/__pycache__/x", ""),
        ("other/venv/module.py", ""),
        (".DS_Store", ""),
        (
            "target/CACHEDIR.TAG",
            "Signature: 8a477f597d28d172789f06886806bc55\n# A cache.",
        ),
        ("other/CACHEDIR.TAG", "no signature"),
        ("conda/conda-meta/history", ""),
        (
            "k8s-cli/CACHEDIR.TAG",
            "Signature: 8a477f597d28d172789f06886806bc55\n# This is a cache of k8s-cli; it can be deleted.\n",
        ),
        ("share/k8s-cli/k8s-cli-state", "This directory belongs to k8s-cli"),
        ("share/k8s-cli/token", "secret"),
    ];
    let left = WALK.folder(folder(&files).path()).unwrap();
    assert_eq!(
        taken(&left),
        [
            "other",
            "other/CACHEDIR.TAG",
            "other/venv",
            "other/venv/module.py",
            "share",
            "sub"
        ]
    );
    let names: Vec<_> = left
        .left_out()
        .by_default
        .iter()
        .map(|(name, count)| (name.as_str(), *count))
        .collect();
    let expected = [
        (".git", 1),
        (".venv", 1),
        ("conda", 1),
        ("my-env", 1),
        ("node_modules", 2),
        ("target", 1),
        ("venv", 1),
    ];
    assert_eq!(names, expected);

    files.push((".gitignore", "!/node_modules\n"));
    assert!(taken(&WALK.folder(folder(&files).path()).unwrap()).contains(&"node_modules/x".to_owned()));
    // A caller that takes only some kinds of files does not ask for histories.
    files.push((".gitignore", "*\n!*/\n!*.py\n"));
    assert_eq!(
        taken(&WALK.folder(folder(&files).path()).unwrap()),
        ["other", "other/venv", "other/venv/module.py", "share", "sub"]
    );
    let everything = Walk {
        everything: true,
        ..WALK
    };
    assert_eq!(
        everything.folder(folder(&files).path()).unwrap().files(),
        files.len() - 1
    );
}

#[test]
fn a_line_of_a_skyignore_that_is_no_pattern_is_an_error() {
    let dir = folder(&[(".skyignore", "ok\n{a\n"), ("x", "")]);
    refused(dir.path(), "line 2 of");
    takes(&[(".gitignore", "{a\nx\n"), ("x", "")], &[".gitignore"]);
}

#[test]
fn what_is_no_file_is_refused_by_its_path_unless_it_is_ignored() {
    let dir = folder(&[("sub/x", "")]);
    let fifo = dir.path().join("sub/pipe");
    mknodat(rustix::fs::CWD, &fifo, NodeType::Fifo, NodeMode::RUSR, 0).unwrap();
    refused(dir.path(), "sub/pipe` is a named pipe");
    fs::write(dir.path().join(".skyignore"), "pipe").unwrap();
    assert_eq!(taken(&WALK.folder(dir.path()).unwrap()), [".skyignore", "sub", "sub/x"]);
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    refused(dir.path(), "socket` is a socket");
    assert!(
        WALK.folder(Path::new("/dev"))
            .unwrap_err()
            .to_string()
            .contains("`/dev/")
    );
    assert!(matches!(
        WALK.file(Path::new("/dev/null"), EntryPath::new("x").unwrap()),
        Err(Error::Special { .. })
    ));
}

#[test]
fn links_are_taken_as_they_are_and_one_out_of_the_folder_is_refused() {
    let dir = folder(&[("sub/x", "")]);
    symlink("x", dir.path().join("sub/link")).unwrap();
    symlink("sub", dir.path().join("folder")).unwrap();
    symlink("missing", dir.path().join("nothing")).unwrap();
    assert_eq!(
        taken(&WALK.folder(dir.path()).unwrap()),
        ["folder", "nothing", "sub", "sub/link", "sub/x"]
    );
    symlink("../..", dir.path().join("sub/out")).unwrap();
    refused(dir.path(), "the link `sub/out` to `../..`");
    fs::remove_file(dir.path().join("sub/out")).unwrap();
    symlink("/etc", dir.path().join("abs")).unwrap();
    refused(dir.path(), "the link `abs` to `/etc`");
}

#[test]
fn the_folder_itself_may_be_a_link_and_must_be_a_folder() {
    let dir = folder(&[("real/x", "")]);
    symlink("real", dir.path().join("link")).unwrap();
    assert_eq!(taken(&WALK.folder(&dir.path().join("link")).unwrap()), ["x"]);
    refused(&dir.path().join("real/x"), "real/x");
    refused(&dir.path().join("missing"), "missing");
}

#[test]
fn too_much_is_refused_with_what_is_largest() {
    let large = "x".repeat(600 << 10);
    let small = "x".repeat(20 << 10);
    let mut files = vec![("checkpoint", large.as_str())];
    let names: Vec<_> = (0..30).map(|at| format!("data/{at}")).collect();
    files.extend(names.iter().map(|name| (name.as_str(), small.as_str())));
    let dir = folder(&files);
    let error = refused(dir.path(), "the files take 1.1 MiB, more than the limit of 1 MiB");
    assert!(error.contains("`checkpoint` (600 KiB)"), "{error}");
    assert!(error.contains("`data/` (600 KiB in 31 entries)"), "{error}");

    let few = Walk {
        limits: Limits {
            max_entries: 20,
            ..WALK.limits
        },
        ..WALK
    };
    let error = few.folder(dir.path()).unwrap_err().to_string();
    assert!(error.contains("more than 20 files and folders"), "{error}");
    assert!(error.contains("`data/`"), "{error}");
}

#[test]
fn a_single_file_is_one_entry_with_the_name_that_it_is_given() {
    let dir = folder(&[("x", "text")]);
    symlink("x", dir.path().join("link")).unwrap();
    let path = EntryPath::new("other").unwrap();
    let selection = WALK.file(&dir.path().join("link"), path.clone()).unwrap();
    assert_eq!(
        (taken(&selection), selection.total_bytes()),
        (vec!["other".to_owned()], 4)
    );
    assert!(WALK.file(dir.path(), path).is_err());
}

#[test]
fn a_folder_that_may_not_be_read_is_an_error_with_its_path() {
    let dir = folder(&[("locked/x", "")]);
    fs::set_permissions(dir.path().join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads it anyway.
    if !rustix::process::geteuid().is_root() {
        refused(dir.path(), "locked");
    }
    fs::set_permissions(dir.path().join("locked"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_folder_that_vanishes_was_never_there() {
    let dir = folder(&[("gone/x", ""), ("gone/deep/x", ""), ("stays/x", "")]);
    let rules = IgnoreRules::of_root(dir.path(), false).unwrap();
    let mut walker = Walker {
        unfit: Unfit::Refuse,
        entries: Vec::new(),
        left_out: LeftOut::default(),
        waiting: Vec::new(),
    };
    let root = Folder {
        place: dir.path().to_owned(),
        path: None,
        rules,
    };
    walker.read(&root, 100).unwrap();
    let gone = walker.waiting.iter().position(|folder| folder.place.ends_with("gone"));
    let gone = walker.waiting.remove(gone.unwrap());
    walker.read(&gone, 100).unwrap();
    fs::remove_dir_all(&gone.place).unwrap();
    // It is read again, as if it had vanished between two of its names.
    walker.read(&gone, 100).unwrap();
    while let Some(next) = walker.waiting.pop() {
        walker.read(&next, 100).unwrap();
    }
    let mut paths: Vec<_> = walker.entries.iter().map(|entry| entry.path.to_string()).collect();
    paths.sort();
    assert_eq!(paths, ["stays", "stays/x"]);
    fs::remove_dir_all(dir.path()).unwrap();
    assert!(walker.read(&root, 100).is_err(), "the folder itself must be there");
}

#[test]
fn what_cannot_be_copied_is_left_out_of_what_a_program_wrote() {
    let dir = folder(&[("run/log", "x"), ("latest/", "")]);
    let _listener = UnixListener::bind(dir.path().join("run/socket")).unwrap();
    for (target, link) in [
        ("log", "good"),
        ("/etc/passwd", "absolute"),
        ("../../x", "out"),
        ("self", "self"),
    ] {
        symlink(target, dir.path().join("run").join(link)).unwrap();
    }
    assert!(WALK.folder(dir.path()).is_err());
    let selection = WALK.fitting(dir.path(), &EntryPath::new("a/b").unwrap()).unwrap();
    assert_eq!(taken(&selection), ["latest", "run", "run/good", "run/log"]);
    let unfit = &selection.left_out().unfit;
    assert_eq!(unfit.to_string(), "`run/absolute`, `run/out`, `run/self` and 1 more");
}

#[test]
fn what_cannot_be_read_does_not_keep_the_rest_from_being_sent() {
    let dir = folder(&[("good", "x"), ("secret", "x"), ("closed/file", "x")]);
    let deep = vec!["d"; 256].join("/");
    fs::create_dir_all(dir.path().join(&deep)).unwrap();
    let close = |name: &str| fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o000)).unwrap();
    close("secret");
    close("closed");
    let selection = WALK.fitting(dir.path(), &EntryPath::new("a/b").unwrap()).unwrap();
    let left_out = selection.left_out();
    // Root may read everything.
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(
        left_out.unreadable.count(),
        if is_root { 1 } else { 3 },
        "{}",
        left_out.unreadable
    );
    assert_eq!(taken(&selection).contains(&"secret".to_owned()), is_root);
    assert!(taken(&selection).contains(&"good".to_owned()));
    let selected = selection.entries().iter().filter(|entry| entry.path.name() == b"d");
    assert_eq!(selected.count(), 253);
    assert!(WALK.folder(dir.path()).is_err());
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}
