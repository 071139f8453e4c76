//! Things as the server answered them, in the form that was asked for.

use std::io::{self, IsTerminal};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::table::{Cell, Column, Table};
use super::{Terminal, is_obeyed, plain, plain_json, print, with_plain_strings};
use crate::args::Format;
use crate::error::{Error, Result};

/// A thing that can be listed.
pub trait Item: DeserializeOwned {
    /// The key of its list in the server's answer.
    const LIST: &'static str;
    /// Its identifier.
    fn id(&self) -> &str;
    /// What its owner calls it.
    fn name(&self) -> &str;
    /// The columns of a table of such things, each with what a thing shows in it.
    fn columns() -> Vec<ItemColumn<Self>>;
}

/// A column of a table of things.
pub struct ItemColumn<T> {
    /// Its heading.
    pub column: Column,
    /// What a thing shows there.
    pub cell: fn(&T) -> Cell,
    /// When it is there.
    pub shown: Shown,
}

/// When a column is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Always.
    Always,
    /// In lists of all users.
    AllUsers,
    /// Where there shall be more.
    Wide,
}

impl<T> ItemColumn<T> {
    /// A column that is always there.
    pub fn new(column: Column, cell: fn(&T) -> Cell) -> Self {
        let shown = Shown::Always;
        Self { column, cell, shown }
    }

    /// A column of lists of all users.
    pub fn all_users(column: Column, cell: fn(&T) -> Cell) -> Self {
        let shown = Shown::AllUsers;
        Self { column, cell, shown }
    }

    /// A column of wide tables.
    pub fn wide(column: Column, cell: fn(&T) -> Cell) -> Self {
        let shown = Shown::Wide;
        Self { column, cell, shown }
    }
}

/// A table of things, in those of the columns that shall be there.
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

/// A thing, with the text that the server sent: a newer server may say more than we know.
#[derive(Debug)]
pub struct Kept<T> {
    /// What we know of it.
    pub item: T,
    /// All of it.
    pub raw: Box<RawValue>,
}

impl<T: Item> Kept<T> {
    /// Reads a thing.
    ///
    /// # Errors
    /// It is another thing.
    pub fn read(raw: Box<RawValue>, url: &str) -> Result<Self> {
        let item = serde_json::from_str(&with_plain_strings(raw.get())).map_err(|source| Error::Answer {
            url: url.to_owned(),
            source,
        })?;
        Ok(Self { item, raw })
    }
}

/// Prints things as a list.
///
/// # Errors
/// The output cannot be written.
pub fn print_items<T: Item>(
    items: &[Kept<T>],
    format: Format,
    all_users: bool,
    headers: bool,
    terminal: Terminal,
) -> Result<()> {
    print_items_below(items, format, all_users, headers, terminal, &mut Vec::new())
}

/// Prints more of a list; a table goes on below another whose columns had these widths.
///
/// # Errors
/// The output cannot be written.
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

/// Prints one thing as the server answered it.
///
/// # Errors
/// The output cannot be written.
pub fn print_one<T>(kept: &Kept<T>, format: Format) -> Result<()> {
    let value: Value = serde_json::from_str(kept.raw.get()).map_err(std::io::Error::from)?;
    match format {
        Format::Yaml => print(&yaml(&value)?),
        _ => print(&json(&value)),
    }
}

/// One document for a person who reads it, and for programs.
pub fn json(value: &Value) -> String {
    plain_json(&format!("{value:#}")).into_owned()
}

/// The same in YAML.
///
/// # Errors
/// YAML cannot say it.
pub fn yaml(value: &Value) -> Result<String> {
    let wrong = |error| Error::Local(format!("cannot write YAML: {error}"));
    let text = serde_saphyr::to_string(value).map_err(wrong)?;
    // Control characters are escapes in YAML; what changes the order in which a line is read is not, and only a person reads.
    let is_shown = io::stdout().is_terminal();
    let is_harmless = |character| character == '\n' || !is_obeyed(character);
    if is_shown && !text.chars().all(is_harmless) {
        return Ok(plain(&text));
    }
    Ok(text)
}
