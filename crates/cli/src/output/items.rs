//! Prints tasks and volumes in the requested format.

use std::io::{self, IsTerminal};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::table::{Cell, Column, Table};
use super::{Terminal, is_obeyed, plain, plain_json, print, with_plain_strings};
use crate::args::Format;
use crate::error::{Error, Result};

/// A task or a volume that can be listed.
pub trait Item: DeserializeOwned {
    /// The key of the list in the server's response.
    const LIST: &'static str;
    fn id(&self) -> &str;
    fn name(&self) -> &str;
    /// The columns of a table, the most important ones first.
    fn columns() -> Vec<ItemColumn<Self>>;
}

/// A table column with the function that fills its cells.
pub struct ItemColumn<T> {
    pub column: Column,
    pub cell: fn(&T) -> Cell,
    pub shown: Shown,
}

/// When to show a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Always,
    AllUsers,
    /// With `--output wide`.
    Wide,
}

impl<T> ItemColumn<T> {
    pub fn new(column: Column, cell: fn(&T) -> Cell) -> Self {
        let shown = Shown::Always;
        Self { column, cell, shown }
    }

    pub fn all_users(column: Column, cell: fn(&T) -> Cell) -> Self {
        let shown = Shown::AllUsers;
        Self { column, cell, shown }
    }

    pub fn wide(column: Column, cell: fn(&T) -> Cell) -> Self {
        let shown = Shown::Wide;
        Self { column, cell, shown }
    }
}

/// Fills a table with the columns to show.
pub fn table<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    mut columns: Vec<ItemColumn<T>>,
    wide: bool,
    all_users: bool,
) -> Table {
    columns.retain(|column| match column.shown {
        Shown::Always => true,
        Shown::AllUsers => all_users,
        Shown::Wide => wide,
    });
    let headings: Vec<Column> = columns.iter().map(|column| column.column).collect();
    let mut table = Table::new(&headings);
    for item in items {
        table.add(columns.iter().map(|column| (column.cell)(item)).collect());
    }
    table
}

/// A decoded item with its original JSON: a newer server may send fields that this version does not know, and `--output
/// json` must include them.
#[derive(Debug)]
pub struct Kept<T> {
    pub item: T,
    pub raw: Box<RawValue>,
}

impl<T: Item> Kept<T> {
    /// Decodes an item; `url` is the server's, for error messages.
    pub fn read(raw: Box<RawValue>, url: &str) -> Result<Self> {
        let item = serde_json::from_str(&with_plain_strings(raw.get())).map_err(|source| Error::Answer {
            url: url.to_owned(),
            source,
        })?;
        Ok(Self { item, raw })
    }
}

pub fn print_items<T: Item>(
    items: &[Kept<T>],
    format: Format,
    all_users: bool,
    headers: bool,
    terminal: Terminal,
) -> Result<()> {
    print_items_below(items, format, all_users, headers, terminal, &mut Vec::new())
}

/// Prints a list as a continuation of an earlier one: in a table, columns are at least as wide as in `above`, which is
/// updated.
pub fn print_items_below<T: Item>(
    items: &[Kept<T>],
    format: Format,
    all_users: bool,
    headers: bool,
    terminal: Terminal,
    above: &mut Vec<usize>,
) -> Result<()> {
    match format {
        Format::Table | Format::Wide => {
            let items = items.iter().map(|kept| &kept.item);
            let table = table(items, T::columns(), format == Format::Wide, all_users);
            print(&table.render_below(terminal, headers, above))
        }
        Format::Name => {
            let names: String = items.iter().map(|kept| format!("{}\n", kept.item.id())).collect();
            print(&names)
        }
        Format::Json => {
            let raw: Vec<&RawValue> = items.iter().map(|kept| &*kept.raw).collect();
            print(&json(&serde_json::json!({ T::LIST: raw })))
        }
        Format::Yaml => {
            let raw: Vec<&RawValue> = items.iter().map(|kept| &*kept.raw).collect();
            print(&yaml(&serde_json::json!({ T::LIST: raw }))?)
        }
    }
}

/// Prints one item as the server sent it.
pub fn print_one<T>(kept: &Kept<T>, format: Format) -> Result<()> {
    let value: Value = serde_json::from_str(kept.raw.get()).map_err(std::io::Error::from)?;
    match format {
        Format::Yaml => print(&yaml(&value)?),
        _ => print(&json(&value)),
    }
}

/// Indented JSON that is safe to print on a terminal.
pub fn json(value: &Value) -> String {
    plain_json(&format!("{value:#}")).into_owned()
}

/// YAML that is safe to print on a terminal.
pub fn yaml(value: &Value) -> Result<String> {
    let wrong = |error| Error::Local(format!("cannot write YAML: {error}"));
    let text = serde_saphyr::to_string(value).map_err(wrong)?;
    // The serializer escapes control characters, but not bidirectional controls. Escaping those changes the value, so
    // do it only on a terminal, where nothing parses the output.
    let is_shown = io::stdout().is_terminal();
    let is_harmless = |character| character == '\n' || !is_obeyed(character);
    if is_shown && !text.chars().all(is_harmless) {
        return Ok(plain(&text));
    }
    Ok(text)
}
