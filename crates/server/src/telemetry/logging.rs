//! The log: JSON for machines, text for a terminal, on standard error.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, LogFormat};

/// Starts logging.
///
/// # Errors
/// The level is none.
pub fn init(args: &Args) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&args.log_level).with_context(|| {
        format!(
            "`{}` is no log level; use `info` or `info,executor=debug`",
            args.log_level
        )
    })?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal);
    match (args.log_format, terminal) {
        (LogFormat::Text, _) | (LogFormat::Auto, true) => builder.init(),
        (LogFormat::Json, _) | (LogFormat::Auto, false) => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
