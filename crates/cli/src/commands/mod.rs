//! The commands.

pub mod api;
pub mod auth;
pub mod completions;
pub mod doctor;
pub mod jobs;
pub mod man;
pub mod volumes;

use std::io::{IsTerminal, Write};

use crate::client::Removed;
use crate::error::{Error, Result};
use crate::output::{plural, print, say};

/// Asks for confirmation before data is lost. Without a terminal, fails and names the flag to pass instead.
fn confirm(action: &str, flag: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::Usage(format!(
            "refusing to {action} without confirmation; pass `{flag}`"
        )));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{action}? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Several("canceled".to_owned())),
    }
}

/// Removes tasks or volumes one by one; continues after failures.
async fn remove_each(
    kind: &str,
    done: &str,
    ids: &[&str],
    remove: impl AsyncFn(&str) -> Result<Removed>,
) -> Result<()> {
    let mut failed = 0;
    for id in ids {
        match remove(id).await {
            // Continue even if standard output is closed.
            Ok(answer) => drop(print(&answer.message)),
            // Removed by somebody else since it was looked up.
            Err(Error::NotFound(_)) => say(&format!("{kind} {id} was already {done}")),
            Err(error) if ids.len() > 1 => {
                failed += 1;
                say(&format!("{kind} {id}: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    match failed {
        0 => Ok(()),
        count => Err(Error::Several(format!("{} could not be {done}", plural(count, kind)))),
    }
}
