//! Reading what is committed.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::error::Error;
use crate::object::{FieldSelector, Kind, LabelSelector, Object, Selection};
use crate::refusal::Refusal;

/// How many idle connections are kept.
const IDLE: usize = 4;

/// Connections that nobody uses now.
#[derive(Default)]
pub struct Reader {
    idle: Mutex<Vec<Connection>>,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continue {
    /// The version of the first page, which is that of the whole list.
    pub version: i64,
    /// Behind this namespace and name.
    pub namespace: String,
    /// See above.
    pub name: String,
}

/// A part of a list.
#[derive(Debug)]
pub struct Page {
    /// The version that a watch goes on from.
    pub version: i64,
    /// The objects, as they are stored.
    pub objects: Vec<Bytes>,
    /// Where the next page begins.
    pub next: Option<Continue>,
}

/// Which objects to list.
#[derive(Debug, Clone)]
pub struct Query {
    /// Of this kind.
    pub kind: &'static Kind,
    /// In this namespace; in all when `None`.
    pub namespace: Option<String>,
    /// With these labels.
    pub labels: LabelSelector,
    /// With these fields.
    pub fields: FieldSelector,
    /// Not more than so many.
    pub limit: Option<usize>,
    /// Behind this.
    pub from: Option<Continue>,
}

fn failed(error: rusqlite::Error) -> Refusal {
    tracing::error!(%error, "the database cannot be read");
    Refusal::internal("the database cannot be read")
}

impl Reader {
    /// Runs `work` with a connection.
    pub(super) fn with<T>(
        &self,
        connect: impl FnOnce() -> Result<Connection, Error>,
        work: impl FnOnce(&Connection) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let connection = match taken {
            Some(connection) => connection,
            None => connect().map_err(Refusal::internal)?,
        };
        let result = work(&connection);
        let mut idle = idle();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        result
    }
}

/// One object, as it is stored.
pub fn get(connection: &Connection, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Bytes>, Refusal> {
    let sql = "SELECT object FROM objects WHERE kind = ?1 AND namespace = ?2 AND name = ?3";
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    statement
        .query_row(params![kind.plural, namespace, name], |row| {
            Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?))
        })
        .optional()
        .map_err(failed)
}

/// A page of a list. Labels are looked at without reading the objects.
pub fn list(connection: &Connection, query: &Query) -> Result<Page, Refusal> {
    connection.execute_batch("BEGIN").map_err(failed)?;
    let page = list_within(connection, query);
    connection.execute_batch("COMMIT").map_err(failed)?;
    page
}

fn list_within(connection: &Connection, query: &Query) -> Result<Page, Refusal> {
    let newest: i64 = connection
        .query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))
        .map_err(failed)?;
    let version = query.from.as_ref().map_or(newest, |from| from.version);
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
        .query(params![query.kind.plural, namespace, from_namespace, from_name])
        .map_err(failed)?;
    let mut page = Page {
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
            page.next = Some(Continue {
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

fn fields_match(query: &Query, object: &[u8]) -> bool {
    let value: Value = serde_json::from_slice(object).unwrap_or_default();
    let object = Object {
        kind: query.kind,
        value,
    };
    query.fields.matches(&Selection::of(&object))
}
