//! Confirms and carries out the removal of tasks and volumes.

use std::io::{IsTerminal, Write};

use crate::client::RemoveResponse;
use crate::error::{Error, Result};
use crate::output::{plural, print, print_message};

/// Asks for confirmation before data is lost. Without a terminal, fails and names the flag to pass instead.
pub(crate) fn confirm(action: &str, flag: &str) -> Result<()> {
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
        _ => Err(Error::Canceled),
    }
}

/// Removes tasks or volumes one by one; continues after failures. `all` has the ID and the path of each in the API.
pub(crate) async fn remove_each(
    kind: &str,
    participle: &str,
    all: &[(&str, String)],
    remove: impl AsyncFn(&str) -> Result<RemoveResponse>,
) -> Result<()> {
    let mut failed = 0;
    for (id, path) in all {
        match remove(path).await {
            // Continue even if standard output is closed.
            Ok(response) => drop(print(&response.message)),
            // Removed by somebody else since it was looked up.
            Err(Error::NotFound(_)) => print_message(&format!("{kind} {id} was already {participle}")),
            Err(error) if all.len() > 1 => {
                failed += 1;
                print_message(&format!("{kind} {id}: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    match failed {
        0 => Ok(()),
        count => Err(Error::Incomplete(format!(
            "{} could not be {participle}",
            plural(count, kind)
        ))),
    }
}
