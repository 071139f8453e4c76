//! Directories with files from ConfigMaps, Secrets, and the downward API, which are updated atomically.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret};
use serde::Deserialize;

use crate::files::read_at_most;
use crate::object::{Kind, Object};

/// Contents of files by path.
pub(super) type FileContents = BTreeMap<String, Vec<u8>>;

/// Returns the entries of a ConfigMap or Secret.
pub(super) fn decode_entries(object: &Object) -> FileContents {
    match object.kind {
        Kind::Secret => {
            let secret = Secret::deserialize(object.value()).unwrap_or_default();
            secret
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.0))
                .collect()
        }
        _ => {
            let map = ConfigMap::deserialize(object.value()).unwrap_or_default();
            let texts = map
                .data
                .into_iter()
                .flatten()
                .map(|(key, text)| (key, text.into_bytes()));
            let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
            texts.chain(binary).collect()
        }
    }
}

/// Returns the files that `items` selects, or all of them without `items`.
pub(super) fn select_items(
    all: FileContents,
    items: Option<&[KeyToPath]>,
    optional: bool,
) -> Result<FileContents, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(all);
    };
    let mut files = FileContents::new();
    for item in items {
        match all.get(&item.key) {
            Some(bytes) => {
                files.insert(item.path.clone(), bytes.clone());
            }
            None if optional => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(files)
}

/// Makes a directory show exactly these files, all at once. As in the kubelet, `..data` is a link to a directory with
/// the files, and each file is a link through `..data`:
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/volume/util/atomic_writer.go>.
pub(super) fn write_atomically(dir: &Path, files: &FileContents, mode: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if is_current(dir, files) {
        return Ok(());
    }
    let old = fs::read_link(dir.join("..data")).ok();
    let version = format!("..{}", uuid::Uuid::new_v4().simple());
    let inner = dir.join(&version);
    for (path, bytes) in files {
        // Pods that were stored by an earlier version are not validated again.
        if !stays_below(path) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{path}` leads out of the volume"),
            ));
        }
        let file = inner.join(path);
        fs::create_dir_all(file.parent().unwrap_or(&inner))?;
        fs::write(&file, bytes)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    }
    fs::create_dir_all(&inner)?;
    let next = dir.join("..data_tmp");
    let _ = fs::remove_file(&next);
    symlink(&version, &next)?;
    fs::rename(next, dir.join("..data"))?;
    update_links(dir, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(())
}

/// Whether a path leads to somewhere below the directory that it is joined to.
pub(super) fn stays_below(path: &str) -> bool {
    let mut steps = Path::new(path).components();
    steps.all(|step| matches!(step, Component::Normal(_) | Component::CurDir))
}

/// Creates the visible links, one for the first component of each path.
fn update_links(dir: &Path, files: &FileContents) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let names: Vec<String> = files.keys().map(|path| first(path)).collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(&name) {
            fs::remove_file(dir.join(name))?;
        }
    }
    for name in names {
        let path = dir.join(&name);
        if fs::symlink_metadata(&path).is_err() {
            symlink(format!("..data/{name}"), path)?;
        }
    }
    Ok(())
}

/// Whether the directory shows exactly these files. Reads no more than their size, because a task may have put larger
/// ones there.
fn is_current(dir: &Path, files: &FileContents) -> bool {
    let Ok(current) = fs::canonicalize(dir.join("..data")) else {
        return false;
    };
    files
        .iter()
        .all(|(path, bytes)| has_content(&current.join(path), bytes))
        && !has_other_files(&current, files)
}

fn has_content(path: &Path, bytes: &[u8]) -> bool {
    read_at_most(path, bytes.len() as u64 + 1).is_ok_and(|found| found == bytes)
}

/// Whether the directory contains anything but the files and their parent directories.
fn has_other_files(root: &Path, files: &FileContents) -> bool {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let below = path.strip_prefix(root).unwrap_or(&path);
            if files.keys().any(|file| Path::new(file) == below) {
                continue;
            }
            if !files.keys().any(|file| Path::new(file).starts_with(below)) {
                return true;
            }
            dirs.push(path);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{FileContents, write_atomically};

    #[test]
    fn a_folder_shows_its_files_and_then_others() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-projection-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let files = |pairs: &[(&str, &str)]| -> FileContents {
            pairs
                .iter()
                .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
                .collect()
        };
        write_atomically(&dir, &files(&[("a", "1"), ("b/c", "2")]), 0o644).unwrap();
        assert_eq!(std::fs::read(dir.join("b/c")).unwrap(), b"2");
        write_atomically(&dir, &files(&[("a", "3")]), 0o644).unwrap();
        assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"3");
        assert!(!dir.join("b").exists());
        // Files that a task has put there don't stay, and are not read.
        let shown = std::fs::canonicalize(dir.join("..data")).unwrap();
        File::create(shown.join("a")).unwrap().set_len(1 << 40).unwrap();
        std::fs::create_dir(shown.join("more")).unwrap();
        write_atomically(&dir, &files(&[("a", "3")]), 0o644).unwrap();
        assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"3");
        let shown = std::fs::canonicalize(dir.join("..data")).unwrap();
        assert!(!shown.join("more").exists());
        write_atomically(&dir, &files(&[("a", "3")]), 0o644).unwrap();
        assert_eq!(
            shown,
            std::fs::canonicalize(dir.join("..data")).unwrap(),
            "unchanged files are not written again"
        );
        let _ = std::fs::remove_dir_all(dir);
    }
}
