//! Reserves space in the database for what must be written on a full disk: that tasks have finished, and their
//! deletion.
//!
//! Free pages in the database, and a write-ahead log that has grown, are space that no other process can take.

use rusqlite::Connection;

/// Size of the reserve, in bytes. Deleting a task changes about ten pages of 4 KiB, and frees most of them. The log is
/// as long as `SQLite` lets it become before restarting it, 1,000 pages, so that transactions of the usual size fit.
const RESERVE_BYTES: i64 = 4 << 20;

/// The size of the cache while the reserve is filled, in pages.
const FILL_CACHE_PAGES: i64 = 16;

/// A table that stays empty: filling it grows the files, and emptying it leaves free pages in them.
pub(super) const SCHEMA: &str = "CREATE TABLE room (zeros BLOB NOT NULL);";

/// Reserves space in the database and in its write-ahead log.
pub(super) fn fill(connection: &Connection) -> rusqlite::Result<()> {
    // An idle server would keep the cache of 2 MB that is filled here, so write with a cache of a few pages.
    let usual: i64 = connection.pragma_query_value(None, "cache_size", |row| row.get(0))?;
    connection.pragma_update(None, "cache_size", FILL_CACHE_PAGES)?;
    let filled = fill_and_empty(connection);
    connection.pragma_update(None, "cache_size", usual)?;
    filled
}

fn fill_and_empty(connection: &Connection) -> rusqlite::Result<()> {
    // Two transactions: pages that are filled and freed within one would never be written.
    connection.execute("INSERT INTO room VALUES (zeroblob(?1))", [RESERVE_BYTES])?;
    connection.execute("DELETE FROM room", [])?;
    // Without this, the pages would exist in the log only.
    checkpoint(connection)
}

/// Copies the write-ahead log into the database, and restarts the log at its beginning.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
}

/// Whether new objects have taken most of the reserve.
pub(super) fn is_used_up(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma: &str| {
        let mut statement = connection.prepare_cached(pragma)?;
        statement.query_row([], |row| row.get::<_, i64>(0))
    };
    Ok(number("PRAGMA freelist_count")? * number("PRAGMA page_size")? < RESERVE_BYTES / 2)
}
