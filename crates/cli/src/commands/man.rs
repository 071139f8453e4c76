//! `k8s-cli man`: the manual pages.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Args;
use crate::error::{Error, Result};
use crate::output::say;

/// Writes a page for each command into a folder.
///
/// # Errors
/// They cannot be written.
pub fn run(folder: &Path) -> Result<()> {
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Args::command(), folder)
    };
    write().map_err(|source| Error::File {
        action: "write",
        path: folder.to_owned(),
        source,
    })?;
    say(&format!(
        "the manual is in `{}`; read it with `man k8s-cli`",
        folder.display()
    ));
    Ok(())
}
