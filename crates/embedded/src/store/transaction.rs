//! Reads and changes objects within a transaction.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::decoded_objects::DecodedObjects;
use super::watch_cache::WatchCacheEvent;
use crate::object::{Kind, Object};
use crate::random::Random;
use crate::resources::needs_reconcile;
use crate::selector::Selection;
use crate::status_error::StatusError;

/// Kinds whose objects have a directory on disk.
const KINDS_WITH_DIRECTORY: [Kind; 2] = [Kind::Pod, Kind::PersistentVolumeClaim];

/// What becomes of the changes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteMode {
    Commit,
    /// They are rolled back.
    DryRun,
}

/// A running transaction. Its changes are invisible to others until it is committed.
pub(crate) struct Transaction<'a> {
    connection: &'a Connection,
    decoded: &'a DecodedObjects,
    /// UIDs of the objects that this transaction changed.
    touched: Vec<String>,
    /// The newest version, including this transaction's changes.
    pub(super) version: i64,
    pub(super) changes: Vec<WatchCacheEvent>,
    /// Changes that the controllers have yet to see.
    pub(super) unseen_changes: Vec<ObjectChange>,
    /// When the transaction began. All its changes have this time.
    pub now: Timestamp,
    /// Whether the disk is too full for new objects of clients.
    pub(super) disk_is_full: bool,
    pub(super) mode: WriteMode,
    /// Whether to sync earlier commits, too, even if this transaction writes nothing.
    pub(super) must_sync: bool,
    /// For UIDs and generated names.
    pub random: &'a mut Random,
}

/// A changed object.
#[derive(Debug)]
pub(crate) struct ObjectChange {
    /// `None` if the object was created.
    pub before: Option<Object>,
    /// `None` if the object was deleted.
    pub after: Option<Object>,
}

fn failed(error: rusqlite::Error) -> StatusError {
    tracing::error!(%error, "database error");
    StatusError::internal("database error")
}

impl<'a> Transaction<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        decoded: &'a DecodedObjects,
        version: i64,
        now: Timestamp,
        random: &'a mut Random,
    ) -> Self {
        Self {
            connection,
            decoded,
            touched: Vec::new(),
            version,
            changes: Vec::new(),
            unseen_changes: Vec::new(),
            disk_is_full: false,
            mode: WriteMode::Commit,
            must_sync: false,
            now,
            random,
        }
    }

    /// Whether to reject new objects of clients for lack of disk space. A dry run needs none.
    pub(crate) fn rejects_new_objects(&self) -> bool {
        self.disk_is_full && self.mode == WriteMode::Commit
    }

    /// Takes the changes that the controllers have yet to see.
    pub(crate) fn take_changes(&mut self) -> Vec<ObjectChange> {
        std::mem::take(&mut self.unseen_changes)
    }

    /// Reads a row of the columns `object` and `uid`.
    fn read(&self, kind: Kind, row: &Row<'_>) -> rusqlite::Result<Object> {
        self.decoded.get_or_decode(row.get_ref(1)?.as_str()?, || {
            Object::decode(kind, row.get_ref(0)?.as_blob()?).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
            })
        })
    }

    /// Reads a row of the columns `object`, `uid`, and `kind`.
    fn read_any(&self, row: &Row<'_>) -> rusqlite::Result<Object> {
        let plural = row.get_ref(2)?.as_str()?;
        let kind = Kind::from_plural(plural).ok_or(rusqlite::Error::InvalidQuery)?;
        self.read(kind, row)
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Object>, StatusError> {
        let sql = "SELECT object, uid FROM objects WHERE kind = ?1 AND namespace = ?2 AND name = ?3";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement
            .query_row(params![kind.plural(), namespace, name], |row| self.read(kind, row))
            .optional()
            .map_err(failed)
    }

    pub(crate) fn get_by_uid(&self, uid: &str) -> Result<Option<Object>, StatusError> {
        let sql = "SELECT object, uid, kind FROM objects WHERE uid = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement
            .query_row(params![uid], |row| self.read_any(row))
            .optional()
            .map_err(failed)
    }

    /// All objects of a kind in a namespace.
    pub(crate) fn list(&self, kind: Kind, namespace: &str) -> Result<Vec<Object>, StatusError> {
        let sql = "SELECT object, uid FROM objects WHERE kind = ?1 AND namespace = ?2 ORDER BY name";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![kind.plural(), namespace], |row| self.read(kind, row));
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// All objects of a kind in all namespaces, oldest first.
    pub(crate) fn list_all(&self, kind: Kind) -> Result<Vec<Object>, StatusError> {
        let sql = "SELECT object, uid FROM objects WHERE kind = ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![kind.plural()], |row| self.read(kind, row));
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// The oldest events that were last recorded before a time.
    pub(crate) fn list_old_events(&self, before: Timestamp, limit: i64) -> Result<Vec<Object>, StatusError> {
        let sql =
            "SELECT object, uid, kind FROM objects WHERE kind = 'events' AND written < ?1 ORDER BY written LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![before.as_second(), limit], |row| self.read_any(row));
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Number of objects of a kind in a namespace.
    pub(crate) fn count(&self, kind: Kind, namespace: &str) -> Result<i64, StatusError> {
        let sql = "SELECT count(*) FROM objects WHERE kind = ?1 AND namespace = ?2";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement
            .query_row(params![kind.plural(), namespace], |row| row.get(0))
            .map_err(failed)
    }

    /// Objects of a kind on which the controllers have work to do, oldest first.
    pub(crate) fn list_active(&self, kind: Kind) -> Result<Vec<Object>, StatusError> {
        let sql = "SELECT object, uid FROM objects WHERE kind = ?1 AND active ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![kind.plural()], |row| self.read(kind, row));
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Objects owned by the object with this UID, oldest first.
    pub(crate) fn list_dependents(&self, uid: &str) -> Result<Vec<Object>, StatusError> {
        let sql = "SELECT object, uid, kind FROM owners JOIN objects ON uid = dependent WHERE owner = ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let rows = statement.query_map(params![uid], |row| self.read_any(row));
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Stores a new object; fails if its name is taken.
    pub(crate) fn create(&mut self, mut object: Object) -> Result<Object, StatusError> {
        if self.get(object.kind, object.namespace(), object.name())?.is_some() {
            return Err(StatusError::already_exists(object.kind, object.name()));
        }
        let bytes = self.assign_version(&mut object);
        let sql = "INSERT INTO objects (kind, namespace, name, uid, active, written, labels, object) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement
            .execute(params![
                object.kind.plural(),
                object.namespace(),
                object.name(),
                object.uid(),
                needs_reconcile(&object),
                self.now.as_second(),
                labels_text(&object),
                &bytes[..]
            ])
            .map_err(failed)?;
        self.write_owners(&object)?;
        self.record_change(None, Some(&object), bytes);
        self.decoded.put(&object);
        Ok(object)
    }

    /// Stores a changed object. Like kube-apiserver, it does nothing if nothing changed: no new version, no watch
    /// event.
    pub(crate) fn update(&mut self, mut object: Object) -> Result<Object, StatusError> {
        let Some(before) = self.get(object.kind, object.namespace(), object.name())? else {
            return Err(StatusError::not_found(object.kind, object.name()));
        };
        if object.version() != before.version() {
            object.set("resourceVersion", before.version().to_string());
        }
        if object == before {
            return Ok(object);
        }
        let bytes = self.assign_version(&mut object);
        let sql = "UPDATE objects SET active = ?2, written = ?3, labels = ?4, object = ?5 WHERE uid = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let labels = labels_text(&object);
        statement
            .execute(params![
                before.uid(),
                needs_reconcile(&object),
                self.now.as_second(),
                labels,
                &bytes[..]
            ])
            .map_err(failed)?;
        if before.owner_references() != object.owner_references() {
            self.delete_owners(before.uid())?;
            self.write_owners(&object)?;
        }
        self.record_change(Some(before), Some(&object), bytes);
        self.decoded.put(&object);
        Ok(object)
    }

    /// Removes an object immediately, regardless of finalizers.
    pub(crate) fn remove(&mut self, mut object: Object) -> Result<(), StatusError> {
        let bytes = self.assign_version(&mut object);
        let sql = "DELETE FROM objects WHERE uid = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        if statement.execute(params![object.uid()]).map_err(failed)? == 0 {
            return Ok(());
        }
        self.delete_owners(object.uid())?;
        // In the same transaction as the deletion, so that a crash can't leave a directory that is never removed.
        if KINDS_WITH_DIRECTORY.contains(&object.kind) {
            self.execute("INSERT OR IGNORE INTO leftovers VALUES (?1)", object.uid())?;
        }
        self.record_change(Some(object), None, bytes);
        Ok(())
    }

    /// UIDs of deleted objects whose directories have yet to be removed.
    pub(crate) fn leftovers(&self) -> Result<Vec<String>, StatusError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT uid FROM leftovers")
            .map_err(failed)?;
        let rows = statement.query_map([], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(failed)
    }

    /// Records that the directory of a deleted object has been removed.
    pub(crate) fn remove_leftover(&self, uid: &str) -> Result<(), StatusError> {
        self.execute("DELETE FROM leftovers WHERE uid = ?1", uid)
    }

    fn execute(&self, sql: &str, uid: &str) -> Result<(), StatusError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        statement.execute(params![uid]).map(drop).map_err(failed)
    }

    /// Sets the next version of an object that is about to be written, and serializes it.
    fn assign_version(&mut self, object: &mut Object) -> Bytes {
        self.decoded.forget(object.uid());
        self.touched.push(object.uid().to_owned());
        self.version += 1;
        object.set("resourceVersion", self.version.to_string());
        // Serializing a JSON value never fails.
        serde_json::to_vec(object.value()).unwrap_or_default().into()
    }

    fn record_change(&mut self, before: Option<Object>, after: Option<&Object>, bytes: Bytes) {
        let Some(shown) = after.or(before.as_ref()) else { return };
        let seen = before.as_ref().map(|before| Arc::new(Selection::of(before)));
        self.changes.push(WatchCacheEvent {
            version: self.version,
            kind: shown.kind,
            namespace: shown.namespace().to_owned(),
            object: bytes,
            after: match (after.map(Selection::of), &seen) {
                // Most changes don't affect selectors; sharing the selection saves memory.
                (Some(now), Some(before)) if now == **before => seen.clone(),
                (now, _) => now.map(Arc::new),
            },
            before: seen,
        });
        self.unseen_changes.push(ObjectChange {
            before,
            after: after.cloned(),
        });
    }

    fn write_owners(&self, object: &Object) -> Result<(), StatusError> {
        let sql = "INSERT OR IGNORE INTO owners VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        for owner in object.owner_references() {
            statement.execute(params![owner.uid, object.uid()]).map_err(failed)?;
        }
        Ok(())
    }

    fn delete_owners(&self, uid: &str) -> Result<(), StatusError> {
        self.execute("DELETE FROM owners WHERE dependent = ?1", uid)
    }

    /// Runs `work` in a savepoint. A panic is rolled back, and becomes an error.
    pub(crate) fn catch_panic<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T, StatusError> {
        let done = self.savepoint(work, |_| true).map_err(failed)?;
        done.ok_or_else(|| StatusError::internal("a controller panicked"))
    }

    /// Runs `work` in a savepoint, and rolls it back if it panics, or if `keeps` is false for its result. Returns
    /// `None` after a panic.
    pub(super) fn savepoint<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> T,
        keeps: impl FnOnce(&T) -> bool,
    ) -> rusqlite::Result<Option<T>> {
        let before = (
            self.version,
            self.changes.len(),
            self.unseen_changes.len(),
            self.touched.len(),
        );
        self.execute_statement("SAVEPOINT part")?;
        // Unwind safe, since the rollback below discards what a panic left half done.
        let done = catch_unwind(AssertUnwindSafe(|| work(self))).ok();
        if !done.as_ref().is_some_and(keeps) {
            self.execute_statement("ROLLBACK TO part")?;
            self.version = before.0;
            self.changes.truncate(before.1);
            self.unseen_changes.truncate(before.2);
            for uid in self.touched.drain(before.3..) {
                self.decoded.forget(&uid);
            }
        }
        self.execute_statement("RELEASE part")?;
        Ok(done)
    }

    fn execute_statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    pub(super) fn write_version(&self) -> rusqlite::Result<()> {
        let sql = "UPDATE meta SET value = ?1 WHERE name = 'version'";
        self.connection
            .prepare_cached(sql)?
            .execute(params![self.version])
            .map(drop)
    }
}

fn labels_text(object: &Object) -> String {
    let labels: BTreeMap<&str, &str> = object.labels();
    // Serializing strings never fails.
    serde_json::to_string(&labels).unwrap_or_default()
}
