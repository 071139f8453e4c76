//! A folder arrives as it was: through packs and the file system, and through archives and the `tar` of an image.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use files::{
    Content, ContentHash, EntryPath, Error, HashCache, Limits, Manifest, Pack, PackBuilder, Selection, Sources, Tar,
    Unpack, Walk, tree_hash,
};
use tempfile::TempDir;

const WALK: Walk = Walk {
    limits: Limits {
        max_entries: 10_000,
        max_total_bytes: 1 << 30,
        max_manifest_bytes: 16 << 20,
    },
    everything: false,
};

const FILES: usize = 2000;

/// A folder of 2,000 files with modes, links, spaces, names in UTF-8 and not, and empty folders.
fn large_folder(root: &Path) {
    let mut random = fastrand::Rng::with_seed(7);
    for folder in 0..40 {
        let name = match folder % 5 {
            0 => format!("with space {folder}").into_bytes(),
            1 => format!("gr\u{fc}n \u{1f600} {folder}").into_bytes(),
            2 => [b"\xff\xfe%\n".as_slice(), folder.to_string().as_bytes()].concat(),
            3 => [vec![b'l'; 120], folder.to_string().into_bytes()].concat(),
            _ => format!("a/b/c/{folder}").into_bytes(),
        };
        let place = root.join(OsStr::from_bytes(&name));
        fs::create_dir_all(&place).unwrap();
        for file in 0..FILES / 40 {
            let path = place.join(format!("file {file}.txt"));
            let size = if file == 0 { 0 } else { random.usize(..2000) };
            fs::write(
                &path,
                std::iter::repeat_with(|| random.u8(..)).take(size).collect::<Vec<_>>(),
            )
            .unwrap();
            // Whole seconds are kept, of years before and after this one.
            let seconds = 1_000_000_000 + 12_345_678 * (file as u64 % 50);
            let time = SystemTime::UNIX_EPOCH + Duration::new(seconds, 999_999_999);
            fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
            let mode = [0o644, 0o755, 0o600, 0o444, 0o640, 0o777][file % 6];
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        symlink("file 1.txt", place.join("link")).unwrap();
        symlink("./missing//x", place.join(OsStr::from_bytes(b"dangling \xff"))).unwrap();
        fs::create_dir(place.join("empty")).unwrap();
        fs::set_permissions(place.join("empty"), Permissions::from_mode(0o711)).unwrap();
        if folder % 10 == 0 {
            fs::set_permissions(&place, Permissions::from_mode(0o555)).unwrap();
        }
    }
    symlink("with space 0", root.join("folder link")).unwrap();
    let large: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(15 << 20).collect();
    fs::write(root.join("large.bin"), large).unwrap();
}

/// A copy that the test may delete, too.
struct Copy {
    dir: TempDir,
}

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("copy")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(
            Command::new("chmod")
                .args(["-R", "u+rwx"])
                .arg(self.dir.path())
                .status(),
        );
    }
}

fn cache() -> HashCache {
    HashCache::none()
}

fn manifest(selection: &Selection) -> Manifest {
    selection.manifest(&cache(), drop).unwrap()
}

fn source() -> (Copy, Selection, Manifest) {
    let source = Copy::new();
    fs::create_dir(source.path()).unwrap();
    large_folder(&source.path());
    let selection = WALK.folder(&source.path()).unwrap();
    assert_eq!(selection.files(), FILES + 1);
    let manifest = manifest(&selection);
    (source, selection, manifest)
}

#[test]
fn a_folder_is_the_same_after_packs_and_unpacking() {
    let (source, selection, manifest) = source();
    let sources = Sources::new(&selection, &manifest);
    let mut builder = PackBuilder::new();
    let mut packs = Vec::new();
    for hash in manifest.contents().keys() {
        packs.extend(builder.push(&sources.read(hash).unwrap()).unwrap());
    }
    packs.extend(builder.finish());
    let contents = packs.into_iter().flat_map(|pack| Pack::parse(pack).unwrap());
    let store: HashMap<ContentHash, Bytes> = contents.map(|content| (ContentHash::of(&content), content)).collect();
    let received = Manifest::parse(&manifest.encode(), &WALK.limits).unwrap();
    assert_eq!(received.hash(), manifest.hash());
    let copy = Copy::new();
    let mut read = |content: &Content| {
        store
            .get(content.hash())
            .cloned()
            .ok_or_else(|| io::Error::other("unknown"))
    };
    Unpack::default()
        .write(&received, &copy.path(), &mut read, drop)
        .unwrap();
    assert_eq!(tree_hash(&copy.path()).unwrap(), tree_hash(&source.path()).unwrap());
    // The copy has the same manifest, though its place is another.
    let again = WALK.folder(&copy.path()).unwrap().manifest(&cache(), drop).unwrap();
    assert_eq!(again.hash(), manifest.hash());
}

#[test]
fn a_folder_is_the_same_after_the_tar_of_an_image() {
    let (source, selection, manifest) = source();
    let mut sources = Sources::new(&selection, &manifest);
    let archive = Tar::default().write_gz(&manifest, &mut sources, Vec::new()).unwrap();
    let unpacked = unpack_with("tar -xzpf -", &archive).unwrap();
    assert_eq!(tree_hash(&unpacked.path()).unwrap(), tree_hash(&source.path()).unwrap());
}

#[test]
fn a_writable_copy_is_the_same_whoever_writes_it() {
    let (_source, selection, manifest) = source();
    let mut sources = Sources::new(&selection, &manifest);
    let copy = Copy::new();
    let unpack = Unpack {
        writable: true,
        resume: false,
    };
    unpack.write(&manifest, &copy.path(), &mut sources, drop).unwrap();
    let expected = tree_hash(&copy.path()).unwrap();
    let archive = Tar { writable: true }
        .write_gz(&manifest, &mut sources, Vec::new())
        .unwrap();
    for command in ["umask 0 && tar -xzf -", "umask 0 && busybox tar -xzf -"] {
        if let Some(unpacked) = unpack_with(command, &archive) {
            assert_eq!(tree_hash(&unpacked.path()).unwrap(), expected, "{command}");
        }
    }
}

/// `None` if there is no such program.
fn unpack_with(command: &str, archive: &[u8]) -> Option<Copy> {
    let copy = Copy::new();
    fs::create_dir(copy.path()).unwrap();
    fs::write(copy.dir.path().join("archive"), archive).unwrap();
    let archive = fs::File::open(copy.dir.path().join("archive")).unwrap();
    let mut shell = Command::new("sh");
    let status = shell
        .args(["-c", command])
        .current_dir(copy.path())
        .stdin(archive)
        .status()
        .unwrap();
    // The shell's word for a program that is not there.
    if status.code() == Some(127) {
        return None;
    }
    assert!(status.success(), "{command}");
    Some(copy)
}

#[test]
fn a_file_that_changed_is_an_error_with_its_path_and_not_a_wrong_copy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("growing.log");
    fs::write(&file, "before").unwrap();
    let selection = WALK.folder(dir.path()).unwrap();
    let manifest = manifest(&selection);
    let hash = *manifest.contents().keys().next().unwrap();
    let sources = Sources::new(&selection, &manifest);
    assert_eq!(sources.read(&hash).unwrap(), "before");
    assert!(matches!(
        sources.read(&ContentHash::of(b"other")),
        Err(Error::UnknownContent { .. })
    ));

    fs::write(&file, "later!").unwrap();
    let changed = |error: Error| matches!(&error, Error::Changed { path } if path.ends_with("growing.log"));
    assert!(changed(sources.read(&hash).unwrap_err()));
    assert!(changed(selection.manifest(&cache(), drop).unwrap_err()));
    fs::write(&file, "x").unwrap();
    assert!(changed(selection.manifest(&cache(), drop).unwrap_err()));
    fs::remove_file(&file).unwrap();
    assert!(changed(sources.read(&hash).unwrap_err()));
    symlink("/etc/passwd", &file).unwrap();
    assert!(changed(selection.manifest(&cache(), drop).unwrap_err()));
    assert!(changed(sources.read(&hash).unwrap_err()));
}

#[test]
fn a_file_that_only_grows_is_copied_as_it_was_and_one_that_vanishes_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("growing.log");
    fs::write(&log, "before").unwrap();
    fs::write(dir.path().join("temporary"), "x").unwrap();
    let selection = WALK.folder(dir.path()).unwrap();
    let append = |text: &str| {
        let mut file = fs::File::options().append(true).open(&log).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    append(" and after");
    fs::remove_file(dir.path().join("temporary")).unwrap();
    let known = HashCache::open(dir.path().join("cache"));
    let manifest = selection.manifest(&known, drop).unwrap();
    append(" and later");
    let target = dir.path().join("target");
    Unpack::default()
        .write(&manifest, &target, &mut Sources::new(&selection, &manifest), drop)
        .unwrap();
    assert_eq!(fs::read(target.join("growing.log")).unwrap(), b"before");
    assert!(!target.join("temporary").exists());
    // A file by itself must be there.
    let single = WALK.file(&log, EntryPath::new("x").unwrap()).unwrap();
    fs::remove_file(&log).unwrap();
    assert!(matches!(single.manifest(&cache(), drop), Err(Error::Changed { .. })));
}

#[test]
fn a_file_that_changes_without_a_trace_is_found_by_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    fs::write(&file, "before").unwrap();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let selection = WALK.folder(dir.path()).unwrap();
    let manifest = manifest(&selection);
    fs::write(&file, "after!").unwrap();
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let hash = *manifest.contents().keys().next().unwrap();
    let read = Sources::new(&selection, &manifest).read(&hash);
    assert!(matches!(read, Err(Error::Unnoticed { .. })), "{read:?}");
}

#[test]
fn a_file_that_may_not_be_read_is_an_error_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), "x").unwrap();
    fs::set_permissions(dir.path().join("secret"), Permissions::from_mode(0o000)).unwrap();
    // The superuser reads it anyway.
    if !rustix::process::geteuid().is_root() {
        let error = WALK
            .folder(dir.path())
            .unwrap()
            .manifest(&cache(), drop)
            .unwrap_err()
            .to_string();
        assert!(error.contains("secret`: Permission denied"), "{error}");
    }
}

#[test]
fn a_single_file_is_a_manifest_of_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), "text").unwrap();
    let selection = WALK
        .file(&dir.path().join("x"), EntryPath::new("config.yaml").unwrap())
        .unwrap();
    let manifest = manifest(&selection);
    let target = dir.path().join("target");
    Unpack::default()
        .write(&manifest, &target, &mut Sources::new(&selection, &manifest), drop)
        .unwrap();
    assert_eq!(fs::read(target.join("config.yaml")).unwrap(), b"text");
}
