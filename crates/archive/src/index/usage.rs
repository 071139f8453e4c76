//! Sums what tasks used.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use task::record::{Usage, UserUsage};

use crate::key::RecordKey;

/// Which tasks to sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Of this user; of all users if unset.
    pub user: Option<String>,
    /// Submitted at or after this time.
    pub since: Option<Timestamp>,
    /// Submitted before this time.
    pub until: Option<Timestamp>,
}

/// What the tasks that match used, by user.
pub(crate) fn sum(connection: &Connection, filter: &UsageFilter) -> Result<Vec<UserUsage>, rusqlite::Error> {
    let mut conditions = vec!["1 = 1"];
    let mut values = Vec::new();
    let mut condition = |sql: &'static str, value: Option<String>| {
        if let Some(value) = value {
            conditions.push(sql);
            values.push(Value::Text(value));
        }
    };
    condition("user = ?", filter.user.clone());
    condition("key >= ?", filter.since.map(RecordKey::first_after));
    condition("key < ?", filter.until.map(RecordKey::first_after));
    let sql = format!(
        "SELECT user, count(*), sum(node_hours), sum(cpu_hours), sum(memory_gib_hours), sum(gpu_hours)
         FROM usages WHERE {} GROUP BY user ORDER BY user",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok(UserUsage {
            username: row.get(0)?,
            tasks: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0),
            usage: Usage {
                node_hours: row.get(2)?,
                cpu_hours: row.get(3)?,
                memory_gib_hours: row.get(4)?,
                gpu_hours: row.get(5)?,
            },
        })
    })?;
    rows.collect()
}
