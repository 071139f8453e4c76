//! Sets up logging to stderr: text on a terminal, JSON otherwise.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, LogFormat};

/// Installs the global log subscriber; fails if `--log-level` is invalid.
pub(crate) fn init(args: &Args) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&args.log_level).with_context(|| {
        format!(
            "invalid log level `{}`; expected, e.g., `info` or `info,executor=debug`",
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
