//! `k8s-cli man`: generates the man pages.

use std::path::Path;

use clap::CommandFactory;

use crate::args::Args;
use crate::error::{Error, FileAction, Result};
use crate::output::print_message;

/// Writes one page per command.
pub(crate) fn run(dir: &Path) -> Result<()> {
    let write = || {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Args::command(), dir)
    };
    write().map_err(Error::file(FileAction::Write, dir))?;
    print_message(&format!(
        "wrote the man pages to `{}`; read them with `man k8s-cli`",
        dir.display()
    ));
    Ok(())
}
