//! Reviews changed snapshots, and refuses those that no test uses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use xshell::{Shell, cmd};

use crate::tools;

/// Insta appends the path of each snapshot that a test uses to the file that this variable names. `cargo insta test
/// --unreferenced reject` does the same, but runs the tests of all selected targets alike, and the end-to-end suite
/// needs arguments of its own.
const USED_SNAPSHOTS_VARIABLE: &str = "INSTA_SNAPSHOT_REFERENCES_FILE";

/// Where the tests of one run record the snapshots that they use.
pub(crate) struct UsedSnapshots {
    file: PathBuf,
}

impl UsedSnapshots {
    /// Starts recording in all commands of `shell`.
    pub(crate) fn record(shell: &Shell) -> Result<Self, xshell::Error> {
        let file = shell.current_dir().join("target/used-snapshots");
        shell.write_file(&file, "")?;
        shell.set_var(USED_SNAPSHOTS_VARIABLE, &file);
        Ok(Self { file })
    }

    /// The snapshots in the repository that no test has used. They would be kept and read for nothing.
    pub(crate) fn unused(&self, shell: &Shell) -> Result<Vec<PathBuf>, xshell::Error> {
        let used = shell.read_file(&self.file)?;
        let used: BTreeSet<PathBuf> = used
            .lines()
            .filter_map(|path| Path::new(path).canonicalize().ok())
            .collect();
        let mut unused = Vec::new();
        for dir in ["crates", "tests"] {
            collect_snapshots(shell, &shell.current_dir().join(dir), &mut unused)?;
        }
        unused.retain(|path| !used.contains(path));
        Ok(unused)
    }
}

fn collect_snapshots(shell: &Shell, dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), xshell::Error> {
    for path in shell.read_dir(dir)? {
        if path.is_dir() {
            collect_snapshots(shell, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "snap") {
            found.extend(path.canonicalize());
        }
    }
    Ok(())
}

/// Shows each changed snapshot of the last test run and asks whether to accept it.
pub(crate) fn review(shell: &Shell) -> Result<(), xshell::Error> {
    tools::INSTA.install(shell)?;
    cmd!(shell, "cargo insta review").run()
}
