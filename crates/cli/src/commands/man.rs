//! `k8s-cli man`: generates the man pages.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Args;
use crate::error::{Error, Result};
use crate::output::say;

/// Writes one page per command.
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
        "wrote the man pages to `{}`; read them with `man k8s-cli`",
        folder.display()
    ));
    Ok(())
}
