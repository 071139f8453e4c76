//! Fetches the files of a task from the server, and sends its outputs there, on the node of the task. The CLI fetches outputs
//! in the same way as a node its files, as another [`Origin`].
//!
//! ```text
//! GET  /files/SET/manifest    what is in the file set
//! POST /files/SET/contents    contents in the order of the files, a few requests at a time
//!         '-- download -- fetch --> files::Unpack --> the target
//!
//! PUT  /outputs/SET           the manifest of the outputs; answers with the contents that are missing
//! POST /outputs/contents      packs of these, a few at a time; then the manifest again
//!         '-- outputs -- upload <-- the paths
//! ```
//!
//! It also copies folders and files of buckets, and files of web servers.
//!
//! On a cluster, an init container with the image of the operator copies this program to a volume of the pod, and the
//! script of the node runs it as the task's user. On one machine, the server's own executable is mounted under the name of
//! the program.

mod args;
mod batches;
mod copy;
mod download;
mod error;
mod fetch;
mod install;
mod origin;
mod outage;
mod outputs;
mod progress;
mod source;
mod upload;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

pub use self::error::Error;
pub use self::fetch::{Wanted, fetch_from};
pub use self::origin::{ContentsRequest, Failure, Observer, Origin, Reply};

use self::args::{Args, Command};

/// The file name of the program.
pub const PROGRAM: &str = "k8s-cli-helper";

/// The URL of the server.
pub const URL_VARIABLE: &str = "K8S_CLI_FILES_URL";

/// Instead of it, a file with the URL, which is read again for each request: the server of a machine may come back at
/// another port.
pub const URL_FILE_VARIABLE: &str = "K8S_CLI_FILES_URL_FILE";

/// The token of the task.
pub const TOKEN_VARIABLE: &str = "K8S_CLI_FILES_TOKEN";

/// The attempt of the task. An older server did not set it.
pub const ATTEMPT_VARIABLE: &str = "K8S_CLI_FILES_ATTEMPT";

/// The header of requests that has the attempt.
pub const ATTEMPT_HEADER: &str = "k8s-cli-attempt";

/// Runs this process as the helper, if it was started by that name, and returns its exit code. Otherwise returns `None`.
#[must_use]
pub fn run_if_helper() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    (Path::new(&name).file_name() == Some(OsStr::new(PROGRAM))).then(main)
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    match Args::parse().command {
        Command::Install { directory } => finish("cannot install this program", install::install(&directory), None),
        Command::Fetch(fetch) => {
            let report = fetch.report.clone();
            finish(
                "cannot fetch the files of the task",
                fetch::fetch(fetch),
                report.as_deref(),
            )
        }
        Command::Keep(keep) => {
            let report = keep.report.clone();
            finish("cannot keep the outputs", outputs::keep(keep), report.as_deref())
        }
        Command::Copy(copy) => finish("cannot copy", copy::copy(&copy), copy.report.as_deref()),
    }
}

/// Says why it failed: in the log of the node, and where Kubernetes looks for the reason.
fn finish(failed: &str, result: Result<(), Error>, report: Option<&Path>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let line = format!("{failed}: {error}");
    eprintln!("[k8s-cli: {line}]");
    if let Some(path) = report {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // The log has it, too.
        let _ = opened.and_then(|mut file| writeln!(file, "{line}"));
    }
    ExitCode::FAILURE
}
