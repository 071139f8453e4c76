//! A folder is written as the manifest says, again and again, and nothing outside of it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;

use super::{Content, Entry, EntryKind, EntryPath, Error, Manifest, Mode, Mtime, Progress, Unpack};
use crate::content::split;
use crate::entry::LinkTarget;
use crate::hash::ContentHash;

/// A manifest, and the contents that were not asked for yet.
#[derive(Default)]
struct Tree {
    entries: Vec<Entry>,
    contents: HashMap<ContentHash, Bytes>,
    asked: usize,
    /// The time of the files that are added.
    mtime: Option<Mtime>,
}

impl Tree {
    fn with(mut self, path: &str, kind: EntryKind) -> Self {
        let path = EntryPath::new(path).unwrap();
        self.entries.push(Entry { path, kind });
        self
    }

    fn directory(self, path: &str, mode: u32) -> Self {
        self.with(path, EntryKind::Directory { mode: Mode::new(mode) })
    }

    fn link(self, path: &str, target: &str) -> Self {
        let target = LinkTarget::new(target).unwrap();
        self.with(path, EntryKind::Link { target })
    }

    fn file(mut self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        let mut contents = Vec::new();
        split(bytes, |content, bytes| {
            contents.push(content);
            self.contents.insert(*content.hash(), Bytes::copy_from_slice(bytes));
        })
        .unwrap();
        let kind = EntryKind::File {
            mode: Mode::new(mode),
            mtime: self.mtime,
            contents,
        };
        self.with(path, kind)
    }

    fn write(&mut self, unpack: Unpack, target: &Path) -> Result<(), Error> {
        let manifest = Manifest::new(self.entries.clone()).unwrap();
        let mut last = Progress::default();
        let contents = &self.contents;
        let asked = &mut self.asked;
        let mut read = |content: &Content| {
            *asked += 1;
            contents
                .get(content.hash())
                .cloned()
                .ok_or_else(|| io::Error::other("gone"))
        };
        unpack.write(&manifest, target, &mut read, |progress| last = progress)?;
        assert_eq!(last.bytes, manifest.total_bytes());
        Ok(())
    }
}

const NEW: Unpack = Unpack {
    writable: false,
    resume: false,
};
const RESUME: Unpack = Unpack { resume: true, ..NEW };

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn target() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn folders_that_nobody_may_write_into_get_their_files_and_their_modes() {
    let dir = target();
    let mut tree = Tree::default()
        .directory("a", 0o555)
        .directory("a/b", 0o500)
        .file("a/b/x", 0o440, b"text")
        .link("a/b/y", "x")
        .directory("empty", 0o711)
        .file("run", 0o755, b"");
    tree.write(NEW, &dir.path().join("made/here")).unwrap();
    let made = dir.path().join("made/here");
    for (path, bits) in [
        ("a", 0o555),
        ("a/b", 0o500),
        ("a/b/x", 0o440),
        ("empty", 0o711),
        ("run", 0o755),
    ] {
        assert_eq!(mode(&made.join(path)), bits, "{path}");
    }
    assert_eq!(fs::read_link(made.join("a/b/y")).unwrap(), Path::new("x"));

    tree.write(
        Unpack {
            writable: true,
            ..RESUME
        },
        &made,
    )
    .unwrap();
    for (path, bits) in [
        ("a", 0o755),
        ("a/b", 0o700),
        ("a/b/x", 0o640),
        ("empty", 0o711),
        ("run", 0o755),
    ] {
        assert_eq!(mode(&made.join(path)), bits, "{path}");
    }
    tree.write(RESUME, &made).unwrap();
    assert_eq!((mode(&made.join("a/b")), mode(&made.join("a/b/x"))), (0o500, 0o440));
    // One content, asked for once.
    assert_eq!(tree.asked, 1);
    for path in ["a", "a/b"] {
        fs::set_permissions(made.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn files_have_the_times_of_the_manifest_or_one_that_zip_knows() {
    let dir = target();
    let mut tree = Tree::default().file("a", 0o400, b"text");
    tree.mtime = Some(Mtime::nearest(1_764_201_600));
    let mut tree = tree.file("b", 0o644, b"");
    tree.mtime = Some(Mtime::nearest(i64::MAX));
    let mut tree = tree.file("c", 0o644, b"");
    tree.write(NEW, dir.path()).unwrap();
    fs::write(dir.path().join("b"), "more").unwrap();
    tree.write(RESUME, dir.path()).unwrap();
    let times = ["a", "b", "c"].map(|name| fs::metadata(dir.path().join(name)).unwrap().mtime());
    assert_eq!(times, [315_619_200, 1_764_201_600, (1 << 33) - 1]);
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let dir = target();
    fs::write(dir.path().join("other"), "").unwrap();
    let error = Tree::default()
        .file("x", 0o644, b"")
        .write(NEW, dir.path())
        .unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    symlink(dir.path(), dir.path().join("link")).unwrap();
    assert!(Tree::default().write(RESUME, &dir.path().join("link")).is_err());
}

#[test]
fn a_wrong_content_is_refused_by_the_path_of_its_file() {
    let dir = target();
    let mut tree = Tree::default().file("x", 0o644, b"right");
    for bytes in tree.contents.values_mut() {
        *bytes = Bytes::from_static(b"wrong");
    }
    let error = tree.write(NEW, dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::WrongContent { path, .. } if path.as_bytes() == b"x"),
        "{error}"
    );
    tree.contents.clear();
    let error = tree.write(RESUME, dir.path()).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot get the content `") && error.ends_with("of `x`: gone"),
        "{error}"
    );
}

#[test]
fn a_run_that_was_cut_continues_where_it_ended() {
    let bytes: Vec<u8> = (0..20 << 20_u32)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let dir = target();
    let mut tree = Tree::default()
        .file("large", 0o600, &bytes)
        .file("small", 0o600, b"small");
    let pieces = tree.entries[0].kind.contents().to_vec();
    assert!(pieces.len() > 3);
    // Two contents and a half are there.
    let there = pieces[0].length() + pieces[1].length() + pieces[2].length() / 2;
    fs::write(dir.path().join("large"), &bytes[..there as usize]).unwrap();
    tree.write(RESUME, dir.path()).unwrap();
    assert_eq!(tree.asked, pieces.len() - 2 + 1);
    assert!(fs::read(dir.path().join("large")).unwrap() == bytes);

    // What is too long is cut, and a wrong byte is found.
    fs::write(dir.path().join("small"), "small and more").unwrap();
    let mut wrong = bytes.clone();
    wrong[pieces[0].length() as usize + 1] ^= 1;
    fs::write(dir.path().join("large"), &wrong).unwrap();
    tree.asked = 0;
    tree.write(RESUME, dir.path()).unwrap();
    assert_eq!(tree.asked, pieces.len() - 1);
    assert!(fs::read(dir.path().join("large")).unwrap() == bytes);
    assert_eq!(fs::read(dir.path().join("small")).unwrap(), b"small");
}

/// Bytes in which no content is twice.
fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

#[test]
fn an_old_file_stays_until_the_new_one_is_whole() {
    let bytes = noise(20 << 20);
    let dir = target();
    let path = dir.path().join("large");
    fs::write(&path, &bytes[..9 << 20]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    let mut tree = Tree::default().file("large", 0o600, &bytes);
    let all = tree.contents.clone();
    let last = tree.entries[0].kind.contents().last().copied().unwrap();
    tree.contents.remove(last.hash());
    assert!(tree.write(RESUME, dir.path()).is_err());
    assert_eq!((fs::read(&path).unwrap().len(), mode(&path)), (9 << 20, 0o440));
    // The next run continues the new one.
    let manifest = Manifest::new(tree.entries.clone()).unwrap();
    assert_eq!(RESUME.missing(&manifest, dir.path()).unwrap(), [last]);
    (tree.contents, tree.asked) = (all, 0);
    tree.write(RESUME, dir.path()).unwrap();
    assert_eq!((tree.asked, mode(&path)), (1, 0o600));
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn two_may_write_the_same_files_at_the_same_time() {
    let dir = target();
    let bytes: Vec<u8> = (0..6 << 20_u32)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect();
    let tree = Tree::default()
        .file("large", 0o600, &bytes)
        .file("small", 0o600, b"small");
    let manifest = Manifest::new(tree.entries.clone()).unwrap();
    let write = || {
        let mut read = |content: &Content| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            Ok(tree.contents[content.hash()].clone())
        };
        RESUME.write(&manifest, dir.path(), &mut read, drop)
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
        others.into_iter().for_each(|other| other.join().unwrap().unwrap());
    });
    assert!(fs::read(dir.path().join("large")).unwrap() == bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn nothing_is_written_through_what_somebody_has_put_into_the_folder() {
    let dir = target();
    let outside = target();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    let tree = || {
        Tree::default()
            .directory("sub", 0o755)
            .file("sub/victim", 0o600, b"evil")
            .link("z", "sub")
    };
    // A link in the place of a folder, of a file, and another name of a file outside.
    symlink(outside.path(), dir.path().join("sub")).unwrap();
    assert!(tree().write(RESUME, dir.path()).is_err());
    fs::remove_file(dir.path().join("sub")).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    symlink(outside.path().join("victim"), dir.path().join("sub/victim")).unwrap();
    symlink(outside.path(), dir.path().join("z")).unwrap();
    tree().write(RESUME, dir.path()).unwrap();
    assert_eq!(fs::read(dir.path().join("sub/victim")).unwrap(), b"evil");
    assert_eq!(fs::read_link(dir.path().join("z")).unwrap(), Path::new("sub"));
    fs::remove_file(dir.path().join("sub/victim")).unwrap();
    fs::hard_link(outside.path().join("victim"), dir.path().join("sub/victim")).unwrap();
    tree().write(RESUME, dir.path()).unwrap();
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"safe");
    assert_eq!(mode(&outside.path().join("victim")), 0o644);
}

#[test]
fn a_link_that_is_put_there_while_writing_is_not_followed() {
    let dir = target();
    let outside = target();
    let tree = Tree::default()
        .file("first", 0o600, b"1")
        .directory("sub", 0o755)
        .file("sub/x", 0o600, b"2");
    let manifest = Manifest::new(tree.entries.clone()).unwrap();
    let mut read = |content: &Content| {
        let sub = dir.path().join("sub");
        // Before the folder is made, and after.
        if tree.contents[content.hash()] == "1" {
            symlink(outside.path(), &sub)?;
        }
        Ok(tree.contents[content.hash()].clone())
    };
    assert!(NEW.write(&manifest, dir.path(), &mut read, drop).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);

    let dir = target();
    let mut read = |content: &Content| {
        let sub = dir.path().join("sub");
        if tree.contents[content.hash()] == "2" {
            fs::rename(&sub, dir.path().join("moved"))?;
            symlink(outside.path(), &sub)?;
        }
        Ok(tree.contents[content.hash()].clone())
    };
    assert!(NEW.write(&manifest, dir.path(), &mut read, drop).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read(dir.path().join("moved/x")).unwrap(), b"2");
}

#[test]
fn what_is_in_the_way_is_an_error_with_its_path() {
    let dir = target();
    fs::create_dir_all(dir.path().join("x/y")).unwrap();
    let error = Tree::default()
        .file("x", 0o600, b"")
        .write(RESUME, dir.path())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot make `") && error.contains("/x`"), "{error}");
}
