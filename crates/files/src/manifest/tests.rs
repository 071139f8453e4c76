//! Manifests are read as they were written, and hostile ones are refused by the path of what is wrong.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{HEADER, Manifest};
use crate::content::{Content, MAX_CONTENT, MIN_CONTENT};
use crate::entry::{Entry, EntryKind, LinkTarget, Mode};
use crate::entry_path::EntryPath;
use crate::error::Error;
use crate::hash::ContentHash;
use crate::limits::Limits;
use crate::mtime::Mtime;

const LIMITS: Limits = Limits {
    max_entries: 200_000,
    max_total_bytes: 1 << 40,
    max_manifest_bytes: 256 << 20,
};

fn directory(path: &str) -> String {
    format!("{{\"path\":\"{path}\",\"kind\":\"directory\",\"mode\":\"755\"}}\n")
}

fn file(path: &str) -> String {
    format!("{{\"path\":\"{path}\",\"kind\":\"file\",\"mode\":\"644\",\"contents\":[]}}\n")
}

fn link(path: &str, target: &str) -> String {
    format!("{{\"path\":\"{path}\",\"kind\":\"link\",\"target\":\"{target}\"}}\n")
}

fn parse(lines: &[String]) -> Result<Manifest, Error> {
    Manifest::parse(&[HEADER, lines.concat().as_bytes()].concat(), &LIMITS)
}

#[track_caller]
fn refused(lines: &[String], reason: &str) {
    let error = parse(lines).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn what_could_write_outside_of_the_folder_is_refused_by_its_path() {
    refused(&[file("../x")], "`../x`");
    refused(&[file("/etc/passwd")], "`/etc/passwd`");
    refused(&[directory("a"), file("a/../../x")], "`a/../../x`");
    refused(&[link("a", "/etc"), file("a/passwd")], "`a/passwd`");
    refused(&[link("a", "/etc")], "the link `a` to `/etc`");
    refused(&[directory("a"), link("a/b", "../../x")], "the link `a/b` to `../../x`");
    refused(&[file("a"), file("a/b")], "`a/b`");
    refused(&[file("a"), file("a")], "`a` twice");
    refused(&[directory("a"), file("a")], "`a` twice");
    refused(&[file("b"), file("a")], "not sorted at `a`");
}

#[test]
fn what_is_not_written_as_it_should_be_is_refused_by_its_line() {
    for (bytes, line) in [
        (&b""[..], 1),
        (b"{\"manifest\":2}\n", 1),
        (b"{\"manifest\":1}", 1),
        (b"{\"manifest\":1}\n\n", 2),
        (b"{\"manifest\":1}\n{}\n", 2),
        (b"{\"manifest\":1}\nx", 2),
    ] {
        let error = Manifest::parse(bytes, &LIMITS).unwrap_err();
        assert!(
            matches!(error, Error::Manifest { line: found, .. } if found == line),
            "{error}"
        );
    }
    assert_eq!(parse(&[]).unwrap().entries(), []);
}

#[test]
fn a_million_entries_are_refused_before_any_is_read() {
    let bytes = [HEADER, file("x").repeat(1_000_000).as_bytes()].concat();
    let start = Instant::now();
    let error = Manifest::parse(&bytes, &LIMITS).unwrap_err();
    assert!(matches!(error, Error::TooManyEntries { limit: 200_000, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_manifest_is_within_the_limits() {
    let large = Manifest::new(vec![Entry {
        path: EntryPath::new("large").unwrap(),
        kind: EntryKind::File {
            mode: Mode::new(0o644),
            mtime: None,
            contents: vec![Content::new(ContentHash::of(b""), MAX_CONTENT as u32).unwrap(); 100],
        },
    }])
    .unwrap();
    let bytes = large.encode();
    assert_eq!(large.total_bytes(), 400 << 20);
    let parse = |limits: Limits| Manifest::parse(&bytes, &limits).map_err(|error| error.to_string());
    assert_eq!(parse(LIMITS), Ok(large));
    let error = parse(Limits {
        max_total_bytes: 1 << 20,
        ..LIMITS
    });
    assert_eq!(
        error.unwrap_err(),
        "the files take 400 MiB, more than the limit of 1 MiB; the largest are `large` (400 MiB)"
    );
    let max_manifest_bytes = bytes.len() - 1;
    let small = Limits {
        max_manifest_bytes,
        ..LIMITS
    };
    assert!(parse(small).unwrap_err().contains("the manifest is larger than"));
}

#[test]
fn a_content_has_one_length() {
    let of_length = |path: &str, length| Entry {
        path: EntryPath::new(path).unwrap(),
        kind: EntryKind::File {
            mode: Mode::new(0),
            mtime: None,
            contents: vec![Content::new(ContentHash::of(b""), length).unwrap()],
        },
    };
    assert!(Manifest::new(vec![of_length("a", 1), of_length("b", 1)]).is_ok());
    assert!(Manifest::new(vec![of_length("a", 1), of_length("b", 2)]).is_err());
}

fn any_kind() -> impl Strategy<Value = EntryKind> + Clone {
    let mode = (0..=0o777_u32).prop_map(Mode::new);
    let hash = any::<[u8; 8]>().prop_map(|bytes| ContentHash::of(&bytes));
    let contents = prop::collection::vec((hash, MIN_CONTENT..=MAX_CONTENT), 0..4).prop_map(|contents| {
        let contents = contents
            .into_iter()
            .filter_map(|(hash, length)| Content::new(hash, length as u32));
        let contents: Vec<_> = contents.collect();
        if crate::content::fault_of(&contents).is_some() {
            contents[..1].to_vec()
        } else {
            contents
        }
    });
    prop_oneof![
        mode.clone().prop_map(|mode| EntryKind::Directory { mode }),
        (mode, prop::option::of(any::<i64>()), contents).prop_map(|(mode, seconds, contents)| EntryKind::File {
            mode,
            mtime: seconds.map(Mtime::nearest),
            contents,
        }),
        prop::collection::vec(1..=255_u8, 1..8).prop_filter_map("leaves", |target| {
            // Names of this strategy are never two dots.
            let safe = !target.starts_with(b"/") && !target.windows(2).any(|pair| pair == b"..");
            safe.then(|| EntryKind::Link {
                target: LinkTarget::new(target).unwrap(),
            })
        }),
    ]
}

/// Entries with names of one level, and of a second in those that are folders.
fn any_manifest() -> impl Strategy<Value = Manifest> {
    let name = prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 1..4);
    let entry = (name, any_kind());
    prop::collection::vec((entry.clone(), prop::collection::vec(entry, 0..4)), 0..12).prop_filter_map("links", |tree| {
        let mut entries = Vec::new();
        for ((name, kind), inside) in tree {
            let Ok(path) = EntryPath::new(name) else { continue };
            if matches!(kind, EntryKind::Directory { .. }) {
                let inside = inside.into_iter().filter_map(|(name, kind): (Vec<u8>, EntryKind)| {
                    Some(Entry {
                        path: EntryPath::child(Some(&path), &name).ok()?,
                        kind,
                    })
                });
                entries.extend(inside.filter(|entry| entry.path.components().count() == 2));
            }
            entries.push(Entry { path, kind });
        }
        entries.retain(|entry| entry.path.components().count() <= 2);
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        entries.dedup_by(|left, right| left.path == right.path);
        Manifest::new(entries).ok()
    })
}

proptest! {
    #[test]
    fn a_manifest_is_read_as_it_was_written(manifest in any_manifest()) {
        let bytes = manifest.encode();
        prop_assert_eq!(Manifest::parse(&bytes, &LIMITS).unwrap(), manifest);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        drop(Manifest::parse(&bytes, &LIMITS));
        drop(Manifest::parse(&[HEADER, &bytes].concat(), &LIMITS));
    }

    /// Bytes near to a manifest reach further into the parser.
    #[test]
    fn a_manifest_that_is_accepted_is_written_as_it_was_read(
        manifest in any_manifest(), at: prop::sample::Index, byte: u8, insert: bool,
    ) {
        let mut bytes = manifest.encode();
        let at = at.index(bytes.len());
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        if let Ok(parsed) = Manifest::parse(&bytes, &LIMITS) {
            prop_assert_eq!(parsed.encode(), bytes);
        }
    }
}
