//! Room in the database for what must be written when the disk is full: that tasks have ended, and that they are gone.
//!
//! Pages in the database that are free, and a write-ahead log that has grown before, are room that no other process can
//! take, however it fills the disk.

use rusqlite::Connection;

/// How much of it there is, in bytes. The removal of a task changes about ten pages of 4 KiB, and frees most of them. The log is as long as
/// `SQLite` lets it become before it begins again, which is 1,000 pages: then no transaction of usual size needs more.
const ROOM: i64 = 4 << 20;

/// Its table, which is empty: to fill it makes the files grow, and to empty it leaves the room in them.
pub(super) const SCHEMA: &str = "CREATE TABLE room (zeros BLOB NOT NULL);";

/// Makes room in the database and in its write-ahead log.
///
/// # Errors
/// The disk has none.
pub(super) fn make(connection: &Connection) -> rusqlite::Result<()> {
    // Two transactions: pages that one fills and frees at once would never be written.
    connection.execute("INSERT INTO room VALUES (zeroblob(?1))", [ROOM])?;
    connection.execute("DELETE FROM room", [])?;
    // The pages would be in the log alone.
    checkpoint(connection)
}

/// Brings what is in the write-ahead log to its place, and lets the log begin again at its start.
///
/// # Errors
/// The disk has no room, or fails.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
}

/// Whether new objects have taken most of the room.
///
/// # Errors
/// The database cannot be read.
pub(super) fn is_taken(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |pragma: &str| {
        let mut statement = connection.prepare_cached(pragma)?;
        statement.query_row([], |row| row.get::<_, i64>(0))
    };
    Ok(number("PRAGMA freelist_count")? * number("PRAGMA page_size")? < ROOM / 2)
}
