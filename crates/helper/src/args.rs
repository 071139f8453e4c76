//! Arguments of `k8s-cli-helper`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use files::{InvalidHash, ManifestHash};

/// How long a node waits for a server that does not answer: longer than a restart or an upgrade of it, and than a move of
/// its pod to another cluster node.
const DEFAULT_PATIENCE: &str = "600";

/// Fetches the files of a task from the k8s-cli server.
#[derive(Debug, Parser)]
#[command(name = crate::PROGRAM, version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy this program to a directory
    Install {
        /// Directory
        directory: PathBuf,
    },
    /// Fetch a file set
    Fetch(Fetch),
    /// Send the outputs of the task to the server
    Keep(Keep),
    /// Copy a folder or an object of a bucket, or a file of a web server
    Copy(Copy),
}

/// Sends files and folders to the server that `K8S_CLI_FILES_URL` or the file `K8S_CLI_FILES_URL_FILE` names, with the token
/// `K8S_CLI_FILES_TOKEN`.
#[derive(Debug, clap::Args)]
pub(crate) struct Keep {
    /// Name of an output, and the path of its file or folder
    #[arg(required = true, num_args = 2.., value_names = ["NAME", "PATH"])]
    pub outputs: Vec<OsString>,

    /// File to which the reason of a failure is appended
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Seconds without any progress after which to give up
    #[arg(long, value_name = "SECONDS", default_value = DEFAULT_PATIENCE, value_parser = parse_seconds)]
    pub patience: Duration,
}

/// Fetches from the server that `K8S_CLI_FILES_URL` or the file `K8S_CLI_FILES_URL_FILE` names, with the token
/// `K8S_CLI_FILES_TOKEN`.
#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    /// ID of the file set
    #[arg(value_parser = parse_id)]
    pub set: ManifestHash,

    /// Directory to write to
    pub into: PathBuf,

    /// Write only the file with this name
    #[arg(long, value_name = "NAME")]
    pub file: Option<String>,

    /// File to which the reason of a failure is appended
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Seconds without any progress after which to give up
    #[arg(long, value_name = "SECONDS", default_value = DEFAULT_PATIENCE, value_parser = parse_seconds)]
    pub patience: Duration,
}

/// Copies with the credentials in the usual variables of the provider, e.g., `AWS_ACCESS_KEY_ID`.
#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// Address: `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, or `https://HOST/PATH`
    pub url: String,

    /// File or directory to write to
    pub into: PathBuf,

    /// File to which the reason of a failure is appended
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Seconds without any progress after which to give up
    #[arg(long, value_name = "SECONDS", default_value = DEFAULT_PATIENCE, value_parser = parse_seconds)]
    pub patience: Duration,
}

fn parse_id(text: &str) -> Result<ManifestHash, InvalidHash> {
    text.parse()
}

fn parse_seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Args;

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }
}
