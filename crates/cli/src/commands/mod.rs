//! What each command does.

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

/// Asks before something is lost. Where there is no terminal nobody can answer, and a flag must say it.
fn confirm(action: &str, flag: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::Usage(format!(
            "this would {action}; there is no terminal to ask on, so say yes with `{flag}`"
        )));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{action}? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Several("nothing was done".to_owned())),
    }
}

/// Removes several things, one after the other, and goes on when one cannot be.
async fn remove_each(
    kind: &str,
    done: &str,
    ids: &[&str],
    remove: impl AsyncFn(&str) -> Result<Removed>,
) -> Result<()> {
    let mut failed = 0;
    for id in ids {
        match remove(id).await {
            // The rest goes on, also when nobody reads this.
            Ok(answer) => drop(print(&answer.message)),
            // Somebody else was faster.
            Err(Error::NotFound(_)) => say(&format!("{kind} {id} was {done} already")),
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
