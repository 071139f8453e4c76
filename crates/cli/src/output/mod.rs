//! What is printed, where, and with which colours.

mod age;
mod describe;
mod items;
mod machine;
mod plain;
mod table;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

pub use age::{age, age_of};
pub use describe::{describe_task, describe_volume, ran_for};
pub use items::{Item, ItemColumn, Kept, json, print_items, print_items_below, print_one, yaml};
pub use machine::{memory, most};
pub use plain::{is_obeyed, plain, plain_json, plain_line, with_plain_strings};
pub use table::{Cell, Table, fixed, flexible, or_dash, status_cell};

use crate::args::Color;
use crate::error::Result;

/// What is known of the two streams.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Columns of standard output; `None` when it is no terminal, and nothing is cut.
    pub width: Option<usize>,
    /// Whether standard output has colours.
    pub color: bool,
}

impl Terminal {
    /// Looks at the streams and at `NO_COLOR`, `CLICOLOR_FORCE` and `TERM`.
    pub fn find(color: Color) -> Self {
        let choice = match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        let size = terminal_size::terminal_size_of(io::stdout());
        Self {
            width: size.map(|(width, _)| usize::from(width.0)),
            color: anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
        }
    }
}

/// Prints text to standard output.
///
/// # Errors
/// It cannot be written.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') && !text.is_empty() {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Says something that is no result: on standard error, so that pipes carry data only.
pub fn say(text: &str) {
    // Nobody is left to be told that this cannot be told.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Says what may be wrong although it worked.
pub fn warn(text: &str) {
    let style = anstyle::AnsiColor::Yellow.on_default().bold();
    say(&format!("{style}warning:{style:#} {text}"));
}

/// Standard output for bytes that must not be changed, without the line buffer of the standard library.
///
/// # Errors
/// It is closed.
pub fn raw_stdout() -> Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// A pause between two looks at something that changes.
pub const REFRESH: Duration = Duration::from_secs(1);

/// `1 task`, `2 tasks`.
pub fn plural(count: usize, thing: &str) -> String {
    if count == 1 {
        format!("{count} {thing}")
    } else {
        format!("{count} {thing}s")
    }
}
