//! `k8s-cli api ...`.

use clap::Subcommand;

/// What can be done with a server on this machine.
#[derive(Debug, Subcommand)]
pub enum ApiCommand {
    /// Start a server in the background, unless one runs.
    Start,
    /// Stop the server that runs in the background. Tasks of this machine run on, and the next server finds them.
    Stop,
    /// Say whether a server answers, and where its tasks run.
    Status,
    /// Print what the server in the background wrote.
    Logs(ApiLogs),
    /// Run a server here, until Ctrl-C; the same as `k8s-cli-api`.
    Serve(Box<server::args::Args>),
}

/// `k8s-cli api logs`.
#[derive(Debug, clap::Args)]
pub struct ApiLogs {
    /// Only so many last lines.
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    pub tail: usize,
}
