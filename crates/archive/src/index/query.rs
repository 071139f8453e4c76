//! Searches in the index.

use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::Value;
use task::TaskState;

use crate::key::RecordKey;

/// Which records to return.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistoryFilter {
    /// Of this user; of all users if unset.
    pub user: Option<String>,
    /// In one of these states; in any if empty.
    pub states: Vec<TaskState>,
    /// With a name that matches this pattern, in which `*` and `?` stand for other characters.
    pub name: Option<String>,
    /// Submitted at or after this time.
    pub since: Option<Timestamp>,
    /// Submitted before this time.
    pub until: Option<Timestamp>,
    /// With this text in their name or message.
    pub text: Option<String>,
    /// After this place in the list.
    pub cursor: Option<HistoryCursor>,
    /// The most records to return.
    pub limit: usize,
}

/// A place in the list of tasks: the key of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryCursor(pub(crate) String);

impl HistoryCursor {
    /// Reads the cursor of a page.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        RecordKey::from_text(text).map(|key| Self(key.as_str().to_owned()))
    }

    /// The key of the last task of the page.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The newest records that match, as keys and JSON.
pub(crate) fn page(connection: &Connection, filter: &HistoryFilter) -> Result<Vec<(String, String)>, rusqlite::Error> {
    let (sql, values) = statement(filter);
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(rusqlite::params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn statement(filter: &HistoryFilter) -> (String, Vec<Value>) {
    let mut conditions = vec!["1 = 1".to_owned()];
    let mut values = Vec::new();
    let mut condition = |sql: &str, value: String| {
        conditions.push(sql.to_owned());
        values.push(Value::Text(value));
    };
    if let Some(user) = &filter.user {
        condition("user = ?", user.clone());
    }
    if let Some(cursor) = &filter.cursor {
        condition("key < ?", cursor.0.clone());
    }
    if let Some(since) = filter.since {
        condition("key >= ?", RecordKey::first_after(since));
    }
    if let Some(until) = filter.until {
        condition("key < ?", RecordKey::first_after(until));
    }
    if let Some(name) = &filter.name {
        condition("name GLOB ?", escape_glob(name));
    }
    if let Some(text) = &filter.text {
        condition("instr(text, ?) > 0", text.to_lowercase());
    }
    if !filter.states.is_empty() {
        // The states are ours, so they need no parameters.
        let states = filter.states.iter().map(|state| format!("'{state}'"));
        conditions.push(format!("status IN ({})", states.collect::<Vec<_>>().join(", ")));
    }
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    values.push(Value::Integer(limit));
    let found = format!(
        "SELECT key FROM records WHERE {} ORDER BY key DESC LIMIT ?",
        conditions.join(" AND ")
    );
    let sql = format!("SELECT key, entry FROM entries WHERE key IN ({found}) ORDER BY key DESC");
    (sql, values)
}

/// Whether a text matches a pattern, in which `*` and `?` stand for other characters.
#[must_use]
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut pattern = escape_glob(pattern);
    // The library takes two stars for directories.
    while pattern.contains("**") {
        pattern = pattern.replace("**", "*");
    }
    glob::Pattern::new(&pattern).is_ok_and(|pattern| pattern.matches(text))
}

/// Only `*` and `?` are special in a pattern of ours.
fn escape_glob(pattern: &str) -> String {
    pattern.replace('[', "[[]")
}

#[cfg(test)]
mod tests {
    use super::{escape_glob, matches_glob};

    #[test]
    fn a_pattern_means_the_same_for_tasks_that_are_still_there() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        for pattern in ["train*", "*[1]", "a**b", "?", "", "**", "x", "tr?in-*", "[a-z]*"] {
            for text in ["train-1", "x[1]", "ab", "a/b", "x", "", "\u{fc}", "[a-z]1", "train"] {
                let sql = "SELECT ? GLOB ?";
                let found: bool = connection
                    .query_row(sql, [text, &escape_glob(pattern)], |row| row.get(0))
                    .unwrap();
                assert_eq!(matches_glob(pattern, text), found, "{pattern} {text}");
            }
        }
    }

    #[test]
    fn brackets_in_a_pattern_are_characters() {
        assert_eq!(escape_glob("a[b]*"), "a[[]b]*");
    }
}
