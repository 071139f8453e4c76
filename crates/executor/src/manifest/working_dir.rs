//! The working folder of a node: where it is, and in which directory its scripts start.

use task::TaskDefinition;
use task::definition::Workdir;

use super::quoting::quote_path;

/// Where the working folder is. A volume, because the user of a container may have no directory to write to.
pub(super) const WORKING_DIR: &str = "/sky_workdir";

/// Set if the home directory is that of the container alone, and may have a link to the working folder.
pub(super) const LINKS_HOME: &str = "K8S_CLI_LINK_HOME";

/// The line that changes to the directory in which `setup`, `run`, and hooks start; empty if it is that of the image.
pub(super) fn start_directory(definition: &TaskDefinition) -> String {
    match &definition.workdir {
        Some(Workdir::Directory(workdir)) => format!("cd {} || exit\n", quote_path(workdir)),
        // The link has the name that scripts for SkyPilot know.
        _ if definition.has_working_dir() => {
            format!("[ ~/sky_workdir -ef {WORKING_DIR} ] && cd ~/sky_workdir || cd {WORKING_DIR} || exit\n")
        }
        _ => String::new(),
    }
}
