//! Prints tasks and volumes in the requested format.

use std::io::{self, IsTerminal};

use escape::{escape_controls, escape_json, escape_json_strings, is_terminal_control};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::print::print;
use super::table::{Cell, Column, Table};
use super::terminal::Terminal;
use crate::args::{Format, ListOutputArgs};
use crate::error::{Error, Result};

/// A task or a volume that can be listed.
pub(crate) trait Item: DeserializeOwned {
    /// The key of the list in the server's response.
    const LIST: &'static str;
    fn id(&self) -> &str;
    fn name(&self) -> &str;
    /// The columns of a table, the most important ones first.
    fn columns() -> Vec<ItemColumn<Self>>;
}

/// A table column with the function that fills its cells.
pub(crate) struct ItemColumn<T> {
    pub column: Column,
    pub cell: fn(&T) -> Cell,
    pub show_when: ShowWhen,
}

/// When to show a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShowWhen {
    Always,
    AllUsers,
    /// With `--output wide`.
    Wide,
}

impl<T> ItemColumn<T> {
    pub(crate) fn new(column: Column, cell: fn(&T) -> Cell) -> Self {
        let show_when = ShowWhen::Always;
        Self {
            column,
            cell,
            show_when,
        }
    }

    pub(crate) fn all_users(column: Column, cell: fn(&T) -> Cell) -> Self {
        let show_when = ShowWhen::AllUsers;
        Self {
            column,
            cell,
            show_when,
        }
    }

    pub(crate) fn wide(column: Column, cell: fn(&T) -> Cell) -> Self {
        let show_when = ShowWhen::Wide;
        Self {
            column,
            cell,
            show_when,
        }
    }
}

/// Fills a table with the columns to show.
pub(crate) fn table<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    mut columns: Vec<ItemColumn<T>>,
    is_shown: impl Fn(ShowWhen) -> bool,
) -> Table {
    columns.retain(|column| is_shown(column.show_when));
    let headings: Vec<Column> = columns.iter().map(|column| column.column).collect();
    let mut table = Table::new(&headings);
    for item in items {
        table.add_row(columns.iter().map(|column| (column.cell)(item)).collect());
    }
    table
}

/// A decoded item with the JSON that the server sent: a newer server may send fields that this version does not know,
/// and `--output json` must include them.
#[derive(Debug, Clone)]
pub(crate) struct WithRaw<T> {
    pub item: T,
    pub raw: Box<RawValue>,
}

impl<T: Item> WithRaw<T> {
    /// Decodes an item; `url` is the server's, for error messages.
    pub(crate) fn decode(raw: Box<RawValue>, url: &str) -> Result<Self> {
        let item = serde_json::from_str(&escape_json_strings(raw.get())).map_err(|source| Error::InvalidResponse {
            url: url.to_owned(),
            source,
        })?;
        Ok(Self { item, raw })
    }
}

/// How to print a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListView {
    pub format: Format,
    /// Whether the list has items of several users.
    pub all_users: bool,
    pub headers: bool,
    pub terminal: Terminal,
}

impl ListView {
    /// The view that the arguments of a list ask for.
    pub(crate) fn of_list(args: &ListOutputArgs, all_users: bool, terminal: Terminal) -> Self {
        Self {
            format: args.format(),
            all_users,
            headers: !args.no_headers,
            terminal,
        }
    }

    /// The items of one user, with headers.
    pub(crate) fn new(format: Format, terminal: Terminal) -> Self {
        Self {
            format,
            all_users: false,
            headers: true,
            terminal,
        }
    }

    fn shows(&self, when: ShowWhen) -> bool {
        match when {
            ShowWhen::Always => true,
            ShowWhen::AllUsers => self.all_users,
            ShowWhen::Wide => self.format == Format::Wide,
        }
    }
}

pub(crate) fn print_items<T: Item>(items: &[WithRaw<T>], view: &ListView) -> Result<()> {
    print_items_below(items, view, &mut Vec::new())
}

/// Prints a list as a continuation of an earlier one: in a table, columns are at least as wide as in `above`, which is
/// updated.
pub(crate) fn print_items_below<T: Item>(items: &[WithRaw<T>], view: &ListView, above: &mut Vec<usize>) -> Result<()> {
    match view.format {
        Format::Table | Format::Wide => {
            let items = items.iter().map(|entry| &entry.item);
            let table = table(items, T::columns(), |when| view.shows(when));
            print(&table.render_below(view.terminal, view.headers, above))
        }
        Format::Name => {
            let names: String = items.iter().map(|entry| format!("{}\n", entry.item.id())).collect();
            print(&names)
        }
        Format::Json => {
            let raw: Vec<&RawValue> = items.iter().map(|entry| &*entry.raw).collect();
            print(&json(&serde_json::json!({ T::LIST: raw })))
        }
        Format::Yaml => {
            let raw: Vec<&RawValue> = items.iter().map(|entry| &*entry.raw).collect();
            print(&yaml(&serde_json::json!({ T::LIST: raw }))?)
        }
    }
}

/// Prints one item as the server sent it.
pub(crate) fn print_item<T>(entry: &WithRaw<T>, format: Format) -> Result<()> {
    let value: Value = serde_json::from_str(entry.raw.get()).map_err(std::io::Error::from)?;
    match format {
        Format::Yaml => print(&yaml(&value)?),
        _ => print(&json(&value)),
    }
}

/// Indented JSON that is safe to print on a terminal.
pub(crate) fn json(value: &Value) -> String {
    escape_json(&format!("{value:#}")).into_owned()
}

/// YAML that is safe to print on a terminal.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    let yaml_error = |error| Error::Local(format!("cannot write YAML: {error}"));
    let text = serde_saphyr::to_string(value).map_err(yaml_error)?;
    // The serializer escapes control characters, but not bidirectional controls. Escaping those changes the value, so
    // do it only on a terminal, where nothing parses the output.
    let is_terminal = io::stdout().is_terminal();
    let is_harmless = |character| character == '\n' || !is_terminal_control(character);
    if is_terminal && !text.chars().all(is_harmless) {
        return Ok(escape_controls(&text));
    }
    Ok(text)
}
