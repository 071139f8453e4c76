//! What is said about an upload: what is left out, what is large, what was sent, and what to do if a folder is refused.

use files::{Heavy, HumanSize, LeftOut};

use crate::output::plural;

/// Caches, which nobody misses.
const CACHES: [&str; 7] = [
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    ".tox",
    ".DS_Store",
];

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

/// Names what is left out and may be missed.
pub(super) fn left_out(written: &str, left_out: &LeftOut, has_skyignore: bool) -> Option<String> {
    let by_default = left_out.by_default.keys();
    let mut named: Vec<String> = by_default
        .filter(|name| !CACHES.contains(&name.as_str()))
        .map(|name| format!("`{name}`"))
        .collect();
    // Nobody writes a `.skyignore` without knowing what it does.
    if left_out.by_patterns > 0 && !has_skyignore {
        let number = plural(left_out.by_patterns, "path");
        named.push(format!("{number} by `.gitignore`"));
    }
    (!named.is_empty()).then(|| {
        format!(
            "note: left out of `{written}`: {}; a `.skyignore` decides otherwise",
            named.join(", ")
        )
    })
}

/// Names what is large, before it is sent.
pub(super) fn large(written: &str, bytes: u64, largest: &[Heavy]) -> Option<String> {
    let named: Vec<String> = largest.iter().map(ToString::to_string).collect();
    (bytes > LARGE_BYTES && !named.is_empty()).then(|| {
        format!(
            "note: {} of `{written}` are sent, most of it {}; add what is not needed to `.skyignore`",
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

/// Why a folder cannot be taken along, and what to do.
pub(super) fn remedy(error: &files::Error) -> String {
    match error {
        files::Error::Link { .. } | files::Error::Path(_) => format!("{error}; remove it, or add it to `.skyignore`"),
        files::Error::ManifestTooLarge { .. } => format!("{error}; add what is not needed to `.skyignore`"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use files::{LeftOut, Limits, Walk};

    use super::{Sent, large, left_out, remedy, summary};

    fn left(names: &[&str], by_patterns: usize) -> LeftOut {
        LeftOut {
            by_default: names.iter().map(|name| ((*name).to_owned(), 1)).collect(),
            by_patterns,
        }
    }

    #[test]
    fn what_is_left_out_is_said_if_it_may_be_missed() {
        let note = |names: &[&str], by_patterns, has_skyignore| left_out(".", &left(names, by_patterns), has_skyignore);
        assert_eq!(note(&["__pycache__", ".DS_Store"], 0, false), None);
        assert_eq!(note(&[], 3, true), None);
        assert_eq!(
            note(&[".git", "__pycache__", "node_modules"], 3, false).unwrap(),
            "note: left out of `.`: `.git`, `node_modules`, 3 paths by `.gitignore`; a `.skyignore` decides otherwise"
        );
    }

    #[test]
    fn little_is_sent_without_a_word() {
        let sent = |bytes| summary("code", &Sent { files: 12, bytes });
        assert_eq!(sent(1 << 20), None);
        assert_eq!(sent(3_600_000).unwrap(), "uploaded 12 files (3.4 MiB) of `code`");
        assert_eq!(large(".", 1 << 40, &[]), None);
    }

    #[test]
    fn a_folder_that_is_refused_is_so_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("big"), [0; 2048]).unwrap();
        let refused = |limits| {
            remedy(
                &Walk {
                    limits,
                    everything: false,
                }
                .folder(folder.path())
                .unwrap_err(),
            )
        };
        let limits = Limits {
            max_entries: 10,
            max_total_bytes: 1024,
            max_manifest_bytes: 1000,
        };
        assert_eq!(
            refused(limits),
            "the files have 2 KiB, and the limit is 1 KiB; add what is not needed to `.skyignore`, the largest being \
             `big` (2 KiB)"
        );
        let limits = Limits {
            max_total_bytes: 4096,
            ..limits
        };
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert_eq!(
            refused(limits),
            "the link `link` to `/etc/passwd` is refused: it leads out of the folder; remove it, or add it to `.skyignore`"
        );
    }
}
