//! What is said about an upload: what is left out, what is large, what was sent, and what to do if a folder is refused.

use files::{Heavy, HumanSize, IgnoreFile, LeftOut, Selection};

use super::FILES_TOO_LARGE;
use crate::error::Error;
use crate::output::plural;
use crate::task_file::{LocalPart, LocalSource};

/// An upload that is larger is reported when it is done.
const REPORTED_BYTES: u64 = 1 << 20;

/// An upload that is larger is probably so by mistake.
const LARGE_BYTES: u64 = 256 << 20;

/// What was sent of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub files: usize,
    pub bytes: u64,
}

/// Names what is left out and may be missed, or what is copied and may be meant to stay here.
pub(super) fn left_out(written: &str, left_out: &LeftOut) -> Option<String> {
    let mut named: Vec<String> = left_out.by_default.keys().map(|name| format!("`{name}`")).collect();
    let file = left_out.ignore_file;
    let replaced = &left_out.ignored_by_git_only;
    // Nobody writes a `.skyignore` without knowing what it does.
    if file == IgnoreFile::Gitignore && left_out.by_patterns.count() > 0 {
        named.push(format!("by {file}: {}", left_out.by_patterns));
    }
    let left_out = (!named.is_empty()).then(|| {
        format!(
            "note: left out of `{written}`: {}; to copy one, add `!PATH` to {file}",
            named.join(", ")
        )
    });
    let copied = (replaced.count() > 0)
        .then(|| format!("note: {file} replaces `.gitignore`, so that these are copied from `{written}`: {replaced}"));
    let notes: Vec<String> = left_out.into_iter().chain(copied).collect();
    (!notes.is_empty()).then(|| notes.join("\n"))
}

/// What of a note is news if it changes. Names of single files are not: each run may leave another log.
pub(super) fn news(left_out: &LeftOut) -> String {
    let names: Vec<&str> = left_out.by_default.keys().map(String::as_str).collect();
    format!(
        "{} {} {} {}",
        left_out.ignore_file,
        names.join("/"),
        left_out.by_patterns.count() > 0,
        left_out.ignored_by_git_only.count() > 0
    )
}

/// How many paths an error names.
const NAMED_PATHS: usize = 5;

/// Names what is largest in a folder that is too large.
pub(super) fn largest(written: &str, selection: &Selection) -> Option<String> {
    let named: Vec<String> = selection.largest(NAMED_PATHS).iter().map(ToString::to_string).collect();
    let file = selection.left_out().ignore_file;
    (!named.is_empty()).then(|| {
        format!(
            "the largest in `{written}` are {}; add what is not needed to {file}",
            named.join(", ")
        )
    })
}

/// The server knows that the files are too large, and this machine what to leave out.
pub(super) fn with_largest(error: Error, part: &LocalPart, selection: &Selection) -> Error {
    let LocalPart { written, source, .. } = part;
    let largest = match source.everything || source.file_name.is_some() {
        true => None,
        false => largest(written, selection),
    };
    match (error, largest) {
        (Error::Server(mut message), Some(largest)) if message.text.contains(FILES_TOO_LARGE) => {
            message.text.push_str("; ");
            message.text.push_str(&largest);
            Error::Server(message)
        }
        (error, _) => error,
    }
}

/// Names what is large, before it is sent.
pub(super) fn large(written: &str, bytes: u64, largest: &[Heavy], file: IgnoreFile) -> Option<String> {
    let named: Vec<String> = largest.iter().map(ToString::to_string).collect();
    (bytes > LARGE_BYTES && !named.is_empty()).then(|| {
        format!(
            "note: {} of `{written}` are sent, most of it {}; add what is not needed to {file}",
            HumanSize(bytes),
            named.join(", ")
        )
    })
}

/// Says what was sent, unless it is little.
pub(super) fn summary(written: &str, sent: &Sent) -> Option<String> {
    let Sent { files, bytes } = *sent;
    (bytes > REPORTED_BYTES).then(|| {
        format!(
            "uploaded {} ({}) of `{written}`",
            plural(files, "file"),
            HumanSize(bytes)
        )
    })
}

/// Why a folder or a file cannot be copied, and what to do.
pub(super) fn remedy(error: files::Error, written: &str, source: &LocalSource) -> String {
    use files::Error::{
        Changed, Io, Link, ManifestTooLarge, PackedTooLarge, Path, Special, TooLarge, TooManyEntries, Unnoticed,
    };

    let error = error.below(&source.path);
    if source.file_name.is_some() || source.everything {
        return match error {
            Changed { .. } | Unnoticed { .. } => format!("{error}; try again"),
            error => error.to_string(),
        };
    }
    let file = IgnoreFile::of(&source.path);
    match &error {
        Link { .. } | Path(_) | Special { .. } => format!("{error}; remove it, or leave it out with {file}"),
        Changed { .. } | Unnoticed { .. } => format!("{error}; try again, or leave it out with {file}"),
        Io { path, .. } if can_be_left_out(path) => {
            format!("{error}; to leave it out, add it to {file} in `{written}`")
        }
        TooManyEntries { .. } | TooLarge { .. } | PackedTooLarge { .. } | ManifestTooLarge { .. } => {
            format!("{error}; add what is not needed to {file}")
        }
        error => error.to_string(),
    }
}

/// Whether a pattern can leave out this path, which is relative if it is in the folder.
fn can_be_left_out(path: &std::path::Path) -> bool {
    let files = [IgnoreFile::Gitignore, IgnoreFile::Skyignore];
    path.is_relative() && !files.iter().any(|file| path.ends_with(file.name()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use files::{Limits, Walk};

    use super::{IgnoreFile, LocalSource, Sent, large, largest, left_out, news, remedy, summary};

    const WALK: Walk = Walk {
        limits: Limits {
            max_entries: 10,
            max_total_bytes: 1024,
            max_manifest_bytes: 1000,
        },
        everything: false,
    };

    /// What is said, and what of it is news, of a folder with these files, all of them empty.
    fn said(files: &[(&str, &str)]) -> (Option<String>, String) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let selection = WALK.folder(folder.path()).unwrap();
        (left_out(".", selection.left_out()), news(selection.left_out()))
    }

    #[test]
    fn what_is_left_out_is_said_if_it_may_be_missed() {
        assert_eq!(said(&[("__pycache__/x", ""), (".DS_Store", "")]).0, None);
        assert_eq!(said(&[(".skyignore", "a.log\n"), ("a.log", "")]).0, None);
        let files = [
            (".gitignore", "*.log\n"),
            ("node_modules/x", ""),
            (".venv/x", ""),
            ("a.log", ""),
            ("b.log", ""),
            ("c.log", ""),
            ("d.log", ""),
        ];
        let (note, first) = said(&files);
        assert_eq!(
            note.unwrap(),
            "note: left out of `.`: `.venv`, `node_modules`, by `.gitignore`: `a.log`, `b.log`, `c.log` and 1 more; to \
             copy one, add `!PATH` to `.gitignore`"
        );
        assert_eq!(said(&files[..6]).1, first, "one more log is not news");
        assert_ne!(said(&files[..2]).1, first);
    }

    #[test]
    fn a_skyignore_that_switches_off_a_gitignore_is_said() {
        let files = [(".skyignore", "socket\n"), (".gitignore", ".env\n"), (".env", "")];
        let (note, with) = said(&files);
        assert_eq!(
            note.unwrap(),
            "note: `.skyignore` replaces `.gitignore`, so that these are copied from `.`: `.env`"
        );
        assert_ne!(said(&files[1..]).1, with);
    }

    #[test]
    fn what_is_too_large_for_a_cluster_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for (name, size) in [("a", 10), ("b", 500), ("c", 300)] {
            fs::write(folder.path().join(name), vec![0; size]).unwrap();
        }
        let selection = WALK.folder(folder.path()).unwrap();
        assert_eq!(
            largest(".", &selection).unwrap(),
            "the largest in `.` are `b` (500 B), `c` (300 B), `a` (10 B); add what is not needed to `.gitignore`"
        );
    }

    #[test]
    fn little_is_sent_without_a_word() {
        let sent = |bytes| summary("code", &Sent { files: 12, bytes });
        assert_eq!(sent(1 << 20), None);
        assert_eq!(sent(3_600_000).unwrap(), "uploaded 12 files (3.4 MiB) of `code`");
        assert_eq!(large(".", 1 << 40, &[], IgnoreFile::Gitignore), None);
    }

    fn refused(folder: &Path, limits: Limits) -> String {
        let path = folder.canonicalize().unwrap();
        let walk = Walk { limits, ..WALK };
        let error = walk.folder(folder).unwrap_err();
        let source = LocalSource {
            path,
            file_name: None,
            everything: false,
        };
        remedy(error, "code", &source)
    }

    #[test]
    fn a_folder_that_is_refused_is_so_with_the_ignore_file_that_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("big"), [0; 2048]).unwrap();
        assert_eq!(
            refused(folder.path(), WALK.limits),
            "the files take 2 KiB, more than the limit of 1 KiB; the largest are `big` (2 KiB); add what is not needed to `.gitignore`"
        );
        let limits = Limits {
            max_total_bytes: 4096,
            ..WALK.limits
        };
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert_eq!(
            refused(folder.path(), limits),
            "the link `link` to `/etc/passwd` is refused: it leads out of the folder; remove it, or leave it out with \
             `.gitignore`"
        );
        // Data has no ignore files.
        let path = folder.path().canonicalize().unwrap();
        let error = Walk { limits, ..WALK }.folder(folder.path()).unwrap_err();
        let data = LocalSource {
            path,
            file_name: None,
            everything: true,
        };
        assert!(remedy(error, "data", &data).ends_with("it leads out of the folder"));
        fs::remove_file(link).unwrap();
        fs::write(folder.path().join(".skyignore"), "").unwrap();
        fs::create_dir(folder.path().join("sub\n")).unwrap();
        let _socket = UnixListener::bind(folder.path().join("sub\n/s")).unwrap();
        assert_eq!(
            refused(folder.path(), limits),
            "`sub%0A/s` is a socket, which cannot be copied; remove it, or leave it out with `.skyignore`"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_folder_and_what_leaves_it_out() {
        let source = LocalSource {
            path: "/home/me/code".into(),
            file_name: None,
            everything: false,
        };
        let failed = |path: &str| {
            let error = files::Error::Io {
                action: "read",
                path: path.into(),
                source: std::io::ErrorKind::PermissionDenied.into(),
            };
            remedy(error, "code", &source)
        };
        assert_eq!(
            failed("/home/me/code/db/key"),
            "cannot read `db/key`: permission denied; to leave it out, add it to `.gitignore` in `code`"
        );
        assert_eq!(
            failed("/home/me/code/sub/.gitignore"),
            "cannot read `sub/.gitignore`: permission denied"
        );
        assert_eq!(
            failed("/home/me/code"),
            "cannot read `/home/me/code`: permission denied"
        );
    }
}
