//! The tables of the index.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use task::record::{HistoryEntry, TaskRecord, Usage};

use crate::key::RecordKey;

/// The version of the tables. An index with another one is deleted and built again.
const VERSION: i64 = 2;

const FILE: &str = "records.db";

/// What searches look at is apart from what they return: a search through all records reads a tenth of the bytes.
const TABLES: &str = "
    CREATE TABLE records (
        key TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        id TEXT NOT NULL,
        status TEXT NOT NULL,
        name TEXT NOT NULL,
        text TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX by_user ON records (user, key, status, name);
    CREATE INDEX by_id ON records (id, user, key);
    CREATE TABLE entries (key TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE usages (
        key TEXT PRIMARY KEY,
        user TEXT NOT NULL,
        node_hours REAL NOT NULL,
        cpu_hours REAL NOT NULL,
        memory_gib_hours REAL NOT NULL,
        gpu_hours REAL NOT NULL
    ) WITHOUT ROWID;
";

/// A record in the index.
pub(crate) struct Row {
    key: String,
    user: String,
    id: String,
    status: String,
    name: String,
    /// What `q` searches, in lower case.
    text: String,
    entry: String,
    usage: Usage,
}

impl Row {
    pub(crate) fn of(key: &RecordKey, record: &TaskRecord) -> Result<Self, serde_json::Error> {
        let task = &record.task;
        let message = task.message.as_deref().unwrap_or_default();
        Ok(Self {
            key: key.as_str().to_owned(),
            user: task.username.clone(),
            id: task.task_id.clone(),
            status: task.status.to_string(),
            name: task.name.clone(),
            text: format!("{}\n{message}", task.name).to_lowercase(),
            entry: serde_json::to_string(&HistoryEntry::of(task, false))?,
            usage: record.usage,
        })
    }
}

/// Opens the index for writing and for reading. One that is damaged or of another version is replaced.
pub(crate) fn open(dir: &Path) -> Result<(Connection, Connection), rusqlite::Error> {
    let path = dir.join(FILE);
    let writer = match open_writer(&path) {
        Ok(Some(writer)) => writer,
        outdated => {
            if let Err(error) = outdated {
                tracing::warn!(%error, "the index of the archive is damaged; building it again");
            }
            for suffix in ["", "-wal", "-shm"] {
                // What is not there need not be deleted, and what cannot be deleted shows below.
                let _ = std::fs::remove_file(dir.join(format!("{FILE}{suffix}")));
            }
            create(&path)?
        }
    };
    let reader = Connection::open(&path)?;
    reader.pragma_update(None, "query_only", true)?;
    Ok((writer, reader))
}

/// The existing index, or `None` if there is none of this version.
fn open_writer(path: &Path) -> Result<Option<Connection>, rusqlite::Error> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = Connection::open(path)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != VERSION {
        return Ok(None);
    }
    connection.query_row("SELECT count(*) FROM (SELECT 1 FROM records LIMIT 1)", [], |_| Ok(()))?;
    configure(&connection)?;
    Ok(Some(connection))
}

fn create(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    configure(&connection)?;
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    // After a power cut the index may lack its last records; the next start finds them in the store.
    connection.pragma_update(None, "synchronous", "off")
}

pub(crate) fn insert(connection: &mut Connection, rows: &[Row]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    {
        let mut record = transaction.prepare_cached(
            "INSERT OR REPLACE INTO records (key, user, id, status, name, text) VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        let mut entry = transaction.prepare_cached("INSERT OR REPLACE INTO entries (key, entry) VALUES (?, ?)")?;
        let mut usage = transaction.prepare_cached(
            "INSERT OR REPLACE INTO usages (key, user, node_hours, cpu_hours, memory_gib_hours, gpu_hours)
             VALUES (?, ?, ?, ?, ?, ?)",
        )?;
        for row in rows {
            record.execute(params![row.key, row.user, row.id, row.status, row.name, row.text])?;
            entry.execute(params![row.key, row.entry])?;
            let used = row.usage;
            usage.execute(params![
                row.key,
                row.user,
                used.node_hours,
                used.cpu_hours,
                used.memory_gib_hours,
                used.gpu_hours
            ])?;
        }
    }
    transaction.commit()
}

pub(crate) fn remove(connection: &mut Connection, keys: &[String]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    for key in keys {
        for table in ["records", "entries", "usages"] {
            transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE key = ?"))?
                .execute([key])?;
        }
    }
    transaction.commit()
}

pub(crate) fn keys(connection: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT key FROM records ORDER BY key")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

pub(crate) fn contains(connection: &Connection, key: &str) -> Result<bool, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM records WHERE key = ?")?;
    statement.exists([key])
}

pub(crate) fn find(connection: &Connection, user: &str, id: &str) -> Result<Option<String>, rusqlite::Error> {
    let sql = "SELECT key FROM records WHERE id = ? AND user = ? ORDER BY key DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([id, user], |row| row.get(0)).optional()
}

/// The users of these tasks, as far as they have a record. Each name is in memory once.
pub(crate) fn users(connection: &Connection, keys: Vec<String>) -> Result<Vec<(String, Arc<str>)>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT user FROM records WHERE key = ?")?;
    let mut names: HashSet<Arc<str>> = HashSet::new();
    let mut users = Vec::new();
    for key in keys {
        let found: Option<String> = statement.query_row([&key], |row| row.get(0)).optional()?;
        if let Some(name) = found {
            let known = names.get(name.as_str()).map(Arc::clone);
            let user = known.unwrap_or_else(|| Arc::from(name));
            names.insert(Arc::clone(&user));
            users.push((key, user));
        }
    }
    Ok(users)
}
