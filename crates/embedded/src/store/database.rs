//! The database file: its schema, settings, and lock.

use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::page_reserve;
use crate::disk::Disk;
use crate::error::Error;
use crate::files::{create_private_dir, private_file_options};
use crate::state_dir::DATABASE;

/// `SQLite`'s layer for one process only. It keeps the index of the write-ahead log in memory instead of in a file, which
/// the first connection makes empty and fills again: a server could not start while a task fills the disk.
const PRIVATE_VFS: &str = "unix-excl";

/// Name of the file in the state directory that a server holds a lock on.
const LOCK: &str = "lock";

/// How long to wait for the lock of the state directory. If a server is killed while it starts a process, the forked
/// child holds the lock until it calls `exec`.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Version of the schema. Each change increments it, and adds a step to [`migrate`].
const SCHEMA_VERSION: i64 = 3;

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('version', 1);
    CREATE TABLE objects (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        uid TEXT NOT NULL,
        -- Whether the controllers have work to do on it.
        active INTEGER NOT NULL,
        -- Time of the last write, in seconds since 1970.
        written INTEGER NOT NULL,
        -- Before the object, so that label selectors do not read it.
        labels TEXT NOT NULL,
        object BLOB NOT NULL
    );
    CREATE UNIQUE INDEX objects_key ON objects (kind, namespace, name);
    CREATE UNIQUE INDEX objects_uid ON objects (uid);
    CREATE INDEX objects_active ON objects (kind) WHERE active;
    CREATE INDEX objects_events ON objects (written) WHERE kind = 'events';
    CREATE TABLE owners (
        owner TEXT NOT NULL,
        dependent TEXT NOT NULL,
        PRIMARY KEY (owner, dependent)
    ) WITHOUT ROWID;
    CREATE INDEX owners_dependent ON owners (dependent);
";

/// Deleted objects whose directories have yet to be removed. Directories that are not listed here are never removed.
const LEFTOVERS: &str = "CREATE TABLE leftovers (uid TEXT PRIMARY KEY) WITHOUT ROWID;";

/// Stands in for the path of an in-memory database in errors.
pub(super) const MEMORY: &str = ":memory:";

/// Number of statements that a connection keeps prepared: more than there are, so that none is evicted.
const STATEMENT_CACHE_CAPACITY: usize = 64;

/// The database in a state directory that this process has locked.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    disk: Disk,
    lock: Arc<DirLock>,
}

/// The lock of a state directory; released when dropped.
#[derive(Debug)]
pub(super) struct DirLock {
    dir: PathBuf,
    file: File,
}

impl DirLock {
    /// Checks that the path of the lock still leads to it. Otherwise another server may use the directory by now, or
    /// will find it somewhere else: nothing must be started that neither would know.
    pub(super) fn check(&self) -> Result<(), Error> {
        let identity = |metadata: std::io::Result<Metadata>| metadata.map(|found| (found.dev(), found.ino())).ok();
        let there = identity(std::fs::metadata(self.dir.join(LOCK)));
        match there.is_some() && there == identity(self.file.metadata()) {
            true => Ok(()),
            false => Err(Error::StateDirGone(self.dir.clone())),
        }
    }
}

impl Database {
    /// Locks the directory, opens its database, and migrates the schema.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let unusable = |source| Error::StateDir {
            path: dir.to_owned(),
            source,
        };
        create_private_dir(dir).map_err(unusable)?;
        let lock = private_file_options().open(dir.join(LOCK)).map_err(unusable)?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL_INTERVAL),
                Err(TryLockError::WouldBlock) => return Err(Error::InUse(dir.to_owned())),
                Err(TryLockError::Error(source)) => return Err(unusable(source)),
            }
        }
        let disk = Disk::of_state_dir(dir);
        // Clear only under the lock: another server's containers may be running in a directory that is in use.
        if disk.is_low() {
            disk.free_up();
        }
        let database = Self {
            disk,
            path: dir.join(DATABASE),
            lock: Arc::new(DirLock {
                dir: dir.to_owned(),
                file: lock,
            }),
        };
        loop {
            match database.prepare() {
                Ok(()) => return Ok(database),
                Err(Error::NewerSchema(path)) => return Err(Error::NewerSchema(path)),
                // The disk may lack a page or two: release the reserve step by step, and only as far as needed.
                Err(error) => {
                    if !database.disk.release_reserve_part() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Creates the file if missing, and migrates the schema.
    fn prepare(&self) -> Result<(), Error> {
        // SQLite creates its other files with the mode of this one, so this makes all of them private.
        private_file_options()
            .open(&self.path)
            .map_err(|source| Error::StateDir {
                path: self.path.clone(),
                source,
            })?;
        let connection = self.connect()?;
        let is_supported = migrate(&connection).map_err(|source| self.error(source))?;
        is_supported
            .then_some(())
            .ok_or_else(|| Error::NewerSchema(self.path.clone()))
    }

    pub(super) fn lock(&self) -> &Arc<DirLock> {
        &self.lock
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Opens another connection.
    pub(crate) fn connect(&self) -> Result<Connection, Error> {
        let open = || {
            let connection = Connection::open_with_flags_and_vfs(&self.path, OpenFlags::default(), PRIVATE_VFS)?;
            // Keep the write-ahead log when the last connection closes: if the disk fills up, it couldn't be created
            // again.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // Each commit syncs the log; the writer relaxes this for transactions that needn't survive a power cut.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "busy_timeout", 5000)?;
            // A large transaction must not need a temporary file on a full disk.
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            // A log that has grown beyond this gives its space back.
            connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
            keep_statements_prepared(&connection)?;
            Ok(connection)
        };
        open().map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> Error {
        error(&self.path, source)
    }
}

/// Opens an in-memory database, which lives as long as its connection.
pub(super) fn in_memory() -> Result<Connection, Error> {
    let open = || {
        let connection = Connection::open_in_memory()?;
        keep_statements_prepared(&connection)?;
        migrate(&connection)?;
        Ok(connection)
    };
    open().map_err(|source| error(MEMORY, source))
}

/// Makes the cache of prepared statements effective. Without the query planner stability guarantee, `SQLite` considers
/// the bound value of `kind` to decide whether the partial index of events applies, and prepares a statement again for
/// each value (<https://sqlite.org/queryplanner-ng.html#qpstab>).
fn keep_statements_prepared(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_CAPACITY);
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
}

pub(super) fn error(path: impl Into<PathBuf>, source: rusqlite::Error) -> Error {
    Error::Database {
        path: path.into(),
        source,
    }
}

/// Migrates the schema in a single transaction; returns false if a newer version of k8s-cli wrote it.
fn migrate(connection: &Connection) -> rusqlite::Result<bool> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let steps = [SCHEMA, LEFTOVERS, page_reserve::SCHEMA];
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if let Some(missing) = steps.get(done..).filter(|missing| !missing.is_empty()) {
        let all = missing.concat();
        let all = format!("BEGIN IMMEDIATE; {all} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
        connection.execute_batch(&all)?;
    }
    Ok(version <= SCHEMA_VERSION)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::Database;
    use crate::error::Error;

    #[test]
    fn a_folder_that_is_given_back_in_a_moment_is_waited_for() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let held = File::create(dir.join("lock")).unwrap();
        held.lock().unwrap();
        assert!(matches!(Database::open(&dir), Err(Error::InUse(_))));
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });
        Database::open(&dir).unwrap();
        release.join().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
