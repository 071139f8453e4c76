//! Archives are the same on every machine, and hold names that do not fit into a header.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use flate2::read::GzDecoder;

use super::{Entry, EntryKind, Manifest, Mode, Mtime, Tar};
use crate::content::Content;
use crate::entry::LinkTarget;
use crate::entry_path::EntryPath;
use crate::hash::ContentHash;

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    let path = EntryPath::new(path).unwrap();
    Entry { path, kind }
}

fn example() -> Manifest {
    let mode = Mode::new(0o500);
    let contents = vec![Content::of(b"text").unwrap()];
    Manifest::new(vec![
        entry(b"a", EntryKind::Directory { mode }),
        entry(
            &[b"a/\xff".as_slice(), &[b'x'; 200]].concat(),
            EntryKind::File {
                mode,
                mtime: Some(Mtime::nearest(1_764_201_600)),
                contents,
            },
        ),
        entry(
            &[b"l".as_slice(), &[0xfe; 98]].concat(),
            EntryKind::Link {
                target: LinkTarget::new([b"./a//".as_slice(), &[b'y'; 150]].concat()).unwrap(),
            },
        ),
        entry(
            &[b'z'; 100],
            EntryKind::Link {
                target: LinkTarget::new(*b"./a/").unwrap(),
            },
        ),
    ])
    .unwrap()
}

fn contents() -> impl FnMut(&Content) -> io::Result<Bytes> {
    |_| Ok(Bytes::from_static(b"text"))
}

#[test]
fn names_of_any_length_and_any_bytes_are_in_the_archive_as_they_are() {
    let bytes = Tar::default().write(&example(), &mut contents(), Vec::new()).unwrap();
    assert_eq!(bytes.len() % 512, 0);
    let mut archive = tar::Archive::new(&bytes[..]);
    let read: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            // Archives of what was unpacked may be zip archives, which know no time before 1980.
            let time = if text.is_empty() { 315_619_200 } else { 1_764_201_600 };
            assert_eq!(header.mtime().unwrap(), time);
            let mode = header.mode().unwrap();
            let target = entry
                .link_name_bytes()
                .map(|target| target.to_vec())
                .unwrap_or_default();
            (entry.path_bytes().to_vec(), mode, target, text)
        })
        .collect();
    let manifest = example();
    let path = |at: usize| manifest.entries()[at].path.as_path().as_os_str().as_bytes().to_vec();
    let expected = [
        (path(0), 0o700, vec![], String::new()),
        (path(1), 0o500, vec![], "text".to_owned()),
        (
            path(2),
            0o777,
            [b"./a//".as_slice(), &[b'y'; 150]].concat(),
            String::new(),
        ),
        (path(3), 0o777, b"./a/".to_vec(), String::new()),
        // The folder is locked when all is in it.
        (path(0), 0o500, vec![], String::new()),
    ];
    assert_eq!(read, expected);
}

#[test]
fn the_bytes_of_an_archive_do_not_change() {
    let bytes = Tar::default().write(&example(), &mut contents(), Vec::new()).unwrap();
    let hash = ContentHash::of(&bytes).to_string();
    assert_eq!(hash, "1b37ec1e130bfb821114e52bcfca41e2e231ec3eb1194b07ae7f15efe7fa0635");
    let compressed = || {
        Tar::default()
            .write_gz(&example(), &mut contents(), Vec::new())
            .unwrap()
    };
    assert_eq!(compressed(), compressed());
    let mut read = Vec::new();
    GzDecoder::new(&compressed()[..]).read_to_end(&mut read).unwrap();
    assert!(read == bytes);
}

#[test]
fn a_wrong_content_ends_the_archive() {
    let mut wrong = |_: &Content| Ok(Bytes::from_static(b"nope"));
    assert!(Tar::default().write(&example(), &mut wrong, Vec::new()).is_err());
}

#[test]
fn an_archive_that_is_too_large_is_given_up_and_another_error_is_told() {
    let manifest = example();
    let mut read = |_: &Content| Ok(Bytes::from_static(b"text"));
    let tar = Tar { writable: true };
    let whole = tar.write_gz(&manifest, &mut read, Vec::new()).unwrap();
    let size = whole.len() as u64;
    assert_eq!(tar.gz_within(&manifest, &mut read, size).unwrap(), Some(whole));
    assert_eq!(tar.gz_within(&manifest, &mut read, size - 1).unwrap(), None);
    let mut wrong = |_: &Content| Ok(Bytes::from_static(b"nope"));
    assert!(tar.gz_within(&manifest, &mut wrong, size).is_err());
}
