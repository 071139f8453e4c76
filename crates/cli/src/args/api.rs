//! Arguments of `k8s-cli api`.

use clap::Subcommand;

use super::output::ReportOutputArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum ApiCommand {
    /// Start a server in the background unless one is already running.
    Start,
    /// Stop the background server. Tasks on this machine keep running, and the next server picks them up.
    Stop,
    /// Show whether the server is reachable and where its tasks run.
    Status(ReportOutputArgs),
    /// Print the log of the background server.
    Logs(ApiLogsArgs),
    /// Run a server in the foreground until Ctrl-C. Same as `k8s-cli-api`.
    Serve(Box<server::args::Args>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ApiLogsArgs {
    /// Number of recent lines to show.
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    pub tail: usize,
}
