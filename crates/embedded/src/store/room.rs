//! Room in the database for what must be written when the disk is full: that tasks have ended, and that they are gone.
//!
//! Pages in the database that are free, and a write-ahead log that has grown before, are room that no other process can
//! take, however it fills the disk.

use rusqlite::Connection;

/// How much of it there is, in bytes. The removal of a task changes about ten pages of 4 KiB, and frees most of them.
const ROOM: i64 = 2 << 20;

/// Its table, which is empty: to fill it makes the files grow, and to empty it leaves the room in them.
pub(super) const SCHEMA: &str = "CREATE TABLE room (zeros BLOB NOT NULL);";

/// Makes room in the database and in its write-ahead log.
///
/// # Errors
/// The disk has none.
pub(super) fn make(connection: &Connection) -> rusqlite::Result<()> {
    // Two transactions: pages that one fills and frees at once would never be written.
    connection.execute("INSERT INTO room VALUES (zeroblob(?1))", [ROOM])?;
    connection.execute("DELETE FROM room", []).map(drop)
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
