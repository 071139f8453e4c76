//! Things as the server answered them, in the form that was asked for.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Table, Terminal, print};
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
    /// An empty table for such things.
    fn table(wide: bool, all_users: bool) -> Table;
    /// Adds it to that table.
    fn add_to(&self, table: &mut Table, wide: bool, all_users: bool);
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
        let item = serde_json::from_str(raw.get()).map_err(|source| Error::Answer {
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
    match format {
        Format::Table | Format::Wide => {
            let wide = format == Format::Wide;
            let mut table = T::table(wide, all_users);
            for kept in items {
                kept.item.add_to(&mut table, wide, all_users);
            }
            print(&table.render(terminal, headers))
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
    format!("{value:#}")
}

/// The same in YAML.
///
/// # Errors
/// YAML cannot say it.
pub fn yaml(value: &Value) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|error| Error::Local(format!("cannot write YAML: {error}")))
}
