//! Reads committed objects.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::error::Error;
use crate::object::{Kind, Object};
use crate::selector::{FieldSelector, LabelSelector, Selection};
use crate::status_error::StatusError;

/// Maximum number of idle connections.
const MAX_IDLE: usize = 4;

/// A pool of idle connections.
#[derive(Default)]
pub(crate) struct ConnectionPool {
    idle: Mutex<Vec<Connection>>,
}

/// Where a paginated list continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContinueToken {
    /// The version of the first page, which all pages report.
    pub version: i64,
    /// Namespace and name of the last object of the previous page.
    pub namespace: String,
    pub name: String,
}

#[derive(Debug)]
pub(crate) struct ListPage {
    /// The version from which a watch can continue.
    pub version: i64,
    /// The objects, as stored.
    pub objects: Vec<Bytes>,
    /// `None` on the last page.
    pub next: Option<ContinueToken>,
}

/// Which objects to list.
#[derive(Debug, Clone)]
pub(crate) struct ListQuery {
    pub kind: Kind,
    /// `None` for all namespaces.
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// Maximum number of objects per page.
    pub limit: Option<usize>,
    /// Where to continue a previous list.
    pub from: Option<ContinueToken>,
}

fn failed(error: rusqlite::Error) -> StatusError {
    tracing::error!(%error, "failed to read the database");
    StatusError::internal("failed to read the database")
}

impl ConnectionPool {
    /// Runs `work` on an idle connection, or on a new one.
    pub(super) fn with<T>(
        &self,
        connect: impl FnOnce() -> Result<Connection, Error>,
        work: impl FnOnce(&Connection) -> Result<T, StatusError>,
    ) -> Result<T, StatusError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A statement of its own: a guard within the `match` would hold the lock while `connect` runs.
        let taken = idle().pop();
        let connection = match taken {
            Some(connection) => connection,
            None => connect().map_err(StatusError::internal)?,
        };
        let result = work(&connection);
        let mut idle = idle();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
        result
    }
}

/// Reads an object as stored.
pub(crate) fn get_object(
    connection: &Connection,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<Option<Bytes>, StatusError> {
    let sql = "SELECT object FROM objects WHERE kind = ?1 AND namespace = ?2 AND name = ?3";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement
        .query_row(params![kind.plural(), namespace, name], |row| {
            Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?))
        })
        .optional()
        .map_err(failed)
}

/// Reads a page of a list. Label selectors are evaluated without reading the objects.
pub(crate) fn list_objects(connection: &Connection, query: &ListQuery) -> Result<ListPage, StatusError> {
    // In a transaction, so that the version and the objects are from the same snapshot.
    connection.execute_batch("BEGIN").map_err(failed)?;
    let page = read_page(connection, query);
    connection.execute_batch("COMMIT").map_err(failed)?;
    page
}

fn read_page(connection: &Connection, query: &ListQuery) -> Result<ListPage, StatusError> {
    let newest: i64 = connection
        .query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))
        .map_err(failed)?;
    // Later pages have newer objects, but report the version of the first page: a watch from there misses no change.
    let version = query.from.as_ref().map_or(newest, |from| from.version);
    // `?3 = ?3` and `?2 = ?2` are always true: they give both statements the same parameters.
    let sql = match query.namespace {
        Some(_) => {
            "SELECT namespace, name, labels, object FROM objects
             WHERE kind = ?1 AND namespace = ?2 AND name > ?4 AND ?3 = ?3 ORDER BY name"
        }
        None => {
            "SELECT namespace, name, labels, object FROM objects
             WHERE kind = ?1 AND ?2 = ?2 AND (namespace, name) > (?3, ?4) ORDER BY namespace, name"
        }
    };
    let (from_namespace, from_name) = match &query.from {
        Some(from) => (from.namespace.as_str(), from.name.as_str()),
        None => ("", ""),
    };
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let namespace = query.namespace.as_deref().unwrap_or_default();
    let mut rows = statement
        .query(params![query.kind.plural(), namespace, from_namespace, from_name])
        .map_err(failed)?;
    let mut page = ListPage {
        version,
        objects: Vec::new(),
        next: None,
    };
    let mut last = (String::new(), String::new());
    while let Some(row) = rows.next().map_err(failed)? {
        if let Some(name) = query.fields.name()
            && row.get_ref(1).and_then(|value| Ok(value.as_str()?)).map_err(failed)? != name
        {
            continue;
        }
        let labels = row.get_ref(2).and_then(|value| Ok(value.as_str()?)).map_err(failed)?;
        if !query.labels.is_empty() && !labels_match(&query.labels, labels) {
            continue;
        }
        let object = row.get_ref(3).and_then(|value| Ok(value.as_blob()?)).map_err(failed)?;
        if !query.fields.is_empty() && !fields_match(query, object) {
            continue;
        }
        if query.limit.is_some_and(|limit| page.objects.len() == limit) {
            page.next = Some(ContinueToken {
                version,
                namespace: last.0,
                name: last.1,
            });
            break;
        }
        last = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        page.objects.push(Bytes::copy_from_slice(object));
    }
    Ok(page)
}

fn labels_match(selector: &LabelSelector, text: &str) -> bool {
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    selector.matches_labels(|key| labels.get(key).map(String::as_str))
}

fn fields_match(query: &ListQuery, object: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(object).unwrap_or_default();
    let object = Object::from_stored(query.kind, value);
    query.fields.matches(&Selection::of(&object))
}
