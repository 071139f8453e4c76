//! The state directory: checks that it is ours to use, and moves unknown entries aside.
//!
//! A missing record is never a reason to delete something, because the record itself may have been lost. The engine
//! deletes only what a record tells it to delete (`leftovers` in the store). Entries without any record are moved
//! aside.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::error::Error;
use crate::files::{create_private_dir, private_file_options, sync_dir};

/// File that marks a directory as ours.
const MARKER_FILE: &str = "k8s-cli-state";

const MARKER_TEXT: &str = "\
This directory belongs to k8s-cli, which stores the tasks of this machine, their logs, and their volumes in it.
k8s-cli does not use a directory without this file unless the directory is empty.
";

pub(crate) const DATABASE: &str = "state.db";

/// Entries that a directory may contain and still count as empty. New file systems have the first one. The CLI writes
/// the others before the server looks: the files of a background server, and the user's name if the XDG directories for
/// data and for configuration are the same.
const IGNORED_ENTRIES: [&str; 6] = [
    "lost+found",
    "api.json",
    "api.log",
    "api.log.old",
    "start.lock",
    "user.json",
];

/// Subdirectory for entries without a record.
const QUARANTINE_DIR: &str = "unknown";

/// Creates the state directory, or accepts it if it is ours or empty. Returns its path without symbolic links.
///
/// # Errors
/// [`Error::NotStateDir`] if the directory contains other files.
pub(crate) fn claim_state_dir(dir: &Path) -> Result<PathBuf, Error> {
    let unusable = |source| Error::StateDir {
        path: dir.to_owned(),
        source,
    };
    create_private_dir(dir).map_err(unusable)?;
    let dir = dir.canonicalize().map_err(unusable)?;
    if dir.join(MARKER_FILE).exists() {
        return Ok(dir);
    }
    let is_older = has_our_database(&dir);
    if !is_older && let Some(found) = find_foreign_entry(&dir).map_err(unusable)? {
        return Err(Error::NotStateDir { dir, found });
    }
    match write_marker(&dir) {
        // The disk may be full. Until the marker can be written, the database shows that the directory is ours.
        Err(error) if is_older => tracing::debug!(%error, "cannot mark the state directory yet"),
        written => written.map_err(unusable)?,
    }
    Ok(dir)
}

fn write_marker(dir: &Path) -> io::Result<()> {
    let mut marker = private_file_options().open(dir.join(MARKER_FILE))?;
    marker.write_all(MARKER_TEXT.as_bytes())?;
    // If a power cut lost the marker, the next start would refuse the directory.
    marker.sync_all()?;
    sync_dir(dir)
}

/// Moves an entry without a record aside, and returns its new path.
pub(crate) fn quarantine(state: &Path, path: &Path) -> io::Result<PathBuf> {
    let kind = path.parent().and_then(Path::file_name).unwrap_or_default();
    let dir = state.join(QUARANTINE_DIR).join(kind);
    create_private_dir(&dir)?;
    let name = path.file_name().unwrap_or_default();
    let mut target = dir.join(name);
    let mut number = 1;
    // Keep entries of the same name that were moved aside earlier.
    while target.symlink_metadata().is_ok() {
        number += 1;
        target = dir.join(format!("{}.{number}", name.to_string_lossy()));
    }
    fs::rename(path, &target)?;
    Ok(target)
}

/// Returns an entry that shows that the directory is used for something else.
fn find_foreign_entry(dir: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !IGNORED_ENTRIES.contains(&name.as_str()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether the directory holds the database of an older engine, which did not write a marker.
fn has_our_database(dir: &Path) -> bool {
    let path = dir.join(DATABASE);
    let tables = |connection: Connection| {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('meta', 'objects', 'owners')";
        connection.query_row(sql, [], |row| row.get::<_, i64>(0))
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let read = || tables(Connection::open_with_flags(&path, flags)?);
    // On a full disk, SQLite has no space for the index of its write-ahead log. The database without the log is enough
    // here: it has nearly everything, and certainly the tables.
    let read_alone = || {
        let escaped = path
            .to_string_lossy()
            .replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23");
        let address = format!("file:{escaped}?immutable=1");
        tables(Connection::open_with_flags(
            address,
            flags | OpenFlags::SQLITE_OPEN_URI,
        )?)
    };
    path.is_file() && read().or_else(|_| read_alone()).is_ok_and(|count| count == 3)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use super::{MARKER_FILE, claim_state_dir, quarantine};
    use crate::error::Error;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("k8s-cli-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_that_is_made_is_private_and_found_again() {
        let dir = scratch("new");
        claim_state_dir(&dir.join("below")).unwrap();
        assert_eq!(mode(&dir.join("below")), 0o700);
        fs::write(dir.join("below/more"), "").unwrap();
        claim_state_dir(&dir.join("below")).unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_empty_folder_is_taken_as_it_is() {
        let dir = scratch("empty");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.join("lost+found")).unwrap();
        claim_state_dir(&dir).unwrap();
        assert_eq!((mode(&dir), mode(&dir.join(MARKER_FILE))), (0o755, 0o600));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_folder_with_something_of_somebody_is_refused_and_stays_as_it_is() {
        let dir = scratch("stranger");
        fs::create_dir_all(dir.join("volumes/photos")).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let error = claim_state_dir(&dir).unwrap_err();
        assert!(
            matches!(&error, Error::NotStateDir { found, .. } if found == "volumes"),
            "{error}"
        );
        assert_eq!(mode(&dir), 0o755);
        assert!(!dir.join(MARKER_FILE).exists() && dir.join("volumes/photos").exists());
        fs::remove_dir_all(dir).unwrap();
    }

    /// What an older engine left on a disk that is full now.
    #[test]
    fn a_folder_without_a_mark_is_known_by_its_database_even_when_nothing_can_be_written() {
        let dir = scratch("older");
        fs::create_dir_all(dir.join("pods")).unwrap();
        let connection = rusqlite::Connection::open(dir.join("state.db")).unwrap();
        let sql =
            "PRAGMA journal_mode = WAL; CREATE TABLE meta (a); CREATE TABLE objects (a); CREATE TABLE owners (a);";
        connection.execute_batch(sql).unwrap();
        drop(connection);
        // These take the place of SQLite's files and of the mark, so that none of them can be written.
        for name in ["state.db-shm", "state.db-wal"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        symlink("nowhere/at-all", dir.join(MARKER_FILE)).unwrap();
        claim_state_dir(&dir).unwrap();
        fs::remove_file(dir.join("state.db")).unwrap();
        assert!(matches!(claim_state_dir(&dir), Err(Error::NotStateDir { .. })));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_moved_aside_replaces_nothing_that_was_moved_before() {
        let dir = scratch("aside");
        let mut moved = Vec::new();
        for text in ["one", "two"] {
            fs::create_dir_all(dir.join("volumes/v")).unwrap();
            fs::write(dir.join("volumes/v/data"), text).unwrap();
            moved.push(quarantine(&dir, &dir.join("volumes/v")).unwrap());
        }
        let texts: Vec<String> = moved
            .iter()
            .map(|dir| fs::read_to_string(dir.join("data")).unwrap())
            .collect();
        assert_eq!(texts, ["one", "two"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
