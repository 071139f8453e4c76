//! Prints to standard output and standard error.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use crate::error::Result;

/// Prints text to standard output, with a final newline.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') && !text.is_empty() {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(())
}

/// Prints a message to standard error, so that pipes carry only data.
pub(crate) fn print_message(text: &str) {
    // If standard error is closed, there is no way to report it.
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

pub(crate) fn print_warning(text: &str) {
    let style = anstyle::AnsiColor::Yellow.on_default().bold();
    print_message(&format!("{style}warning:{style:#} {text}"));
}

/// Standard output without the standard library's line buffer, which would split writes of logs, and without
/// `anstream`, which could strip escape sequences: logs are passed through unchanged.
pub(crate) fn raw_stdout() -> Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Standard error in the same way.
pub(crate) fn raw_stderr() -> Result<File> {
    Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?))
}

/// `1 task`, `2 tasks`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("{count} {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
