//! The terminal: its width and whether it shows color.

use std::io;
use std::time::Duration;

use crate::args::Color;

/// Refresh interval of live views.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Properties of standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Width in columns; `None` if it is not a terminal. Tables are then not truncated.
    pub width: Option<usize>,
    /// Whether to use color.
    pub color: bool,
}

impl Terminal {
    /// Detects the terminal. With `Color::Auto`, respects `NO_COLOR`, `CLICOLOR_FORCE`, and `TERM`.
    pub(crate) fn detect(color: Color) -> Self {
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
