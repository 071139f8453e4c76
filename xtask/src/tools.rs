//! Installs development tools that are cargo subcommands.

use xshell::{Shell, cmd};

/// A cargo subcommand and the version to install if it is missing.
pub(crate) struct Tool {
    pub(crate) subcommand: &'static str,
    pub(crate) version: &'static str,
}

pub(crate) const DENY: Tool = Tool {
    subcommand: "deny",
    version: "0.20.2",
};
pub(crate) const FUZZ: Tool = Tool {
    subcommand: "fuzz",
    version: "0.13.1",
};
/// The version of the library that writes the snapshots.
pub(crate) const INSTA: Tool = Tool {
    subcommand: "insta",
    version: "1.49.0",
};
pub(crate) const MACHETE: Tool = Tool {
    subcommand: "machete",
    version: "0.9.2",
};

impl Tool {
    /// Installs the tool if it is missing. Without optimization, which takes most of the time of an installation.
    pub(crate) fn install(&self, shell: &Shell) -> Result<(), xshell::Error> {
        let Self { subcommand, version } = self;
        let is_present = cmd!(shell, "cargo-{subcommand} --version")
            .quiet()
            .ignore_stderr()
            .ignore_stdout()
            .run()
            .is_ok();
        if is_present {
            return Ok(());
        }
        cmd!(shell, "cargo install --debug --locked cargo-{subcommand}@{version}").run()
    }
}
