//! Printing: standard output for data, standard error for everything else, and color.

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

/// Properties of standard output.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Width in columns; `None` if it is not a terminal. Tables are then not truncated.
    pub width: Option<usize>,
    /// Whether to use color.
    pub color: bool,
}

impl Terminal {
    /// Detects the terminal. With `Color::Auto`, respects `NO_COLOR`, `CLICOLOR_FORCE`, and `TERM`.
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

/// Prints text to standard output, with a final newline.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') && !text.is_empty() {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Prints a message to standard error, so that pipes carry only data.
pub fn say(text: &str) {
    // If standard error is closed, there is no way to report it.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

pub fn warn(text: &str) {
    let style = anstyle::AnsiColor::Yellow.on_default().bold();
    say(&format!("{style}warning:{style:#} {text}"));
}

/// Standard output without the standard library's line buffer, which would split writes of logs, and without
/// `anstream`, which could strip escape sequences: logs are passed through unchanged.
pub fn raw_stdout() -> Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Refresh interval of live views.
pub const REFRESH: Duration = Duration::from_secs(1);

/// `1 task`, `2 tasks`.
pub fn plural(count: usize, thing: &str) -> String {
    if count == 1 {
        format!("{count} {thing}")
    } else {
        format!("{count} {thing}s")
    }
}
