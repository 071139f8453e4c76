//! `k8s-cli api`: manages the server on this machine.

use std::io::ErrorKind;

use serde::Serialize;
use task::wire::{BackendKind, ServerVersion};

use crate::args::{ApiCommand, ReportFormat};
use crate::context::Context;
use crate::daemon;
use crate::error::{Error, FileAction, Result};
use crate::output::{escape_controls, print, print_message, print_report};

/// Runs all subcommands but `serve`, which has its own runtime and is handled in [`crate::run`].
pub(crate) async fn run(context: &Context, command: ApiCommand) -> Result<()> {
    match command {
        ApiCommand::Start => {
            if daemon::is_ready(&context.client).await? {
                print_message(&format!("a server is already running at {}", context.client.url()));
                return Ok(());
            }
            daemon::start(&context.client).await
        }
        ApiCommand::Stop => {
            match daemon::stop().await? {
                Some(stopped) => print_message(&format!(
                    "stopped the server at {} (PID {}); tasks on this machine keep running",
                    stopped.url, stopped.pid
                )),
                None if daemon::is_ready(&context.client).await.unwrap_or(false) => {
                    return Err(Error::Local(format!(
                        "the server at {} was not started by `k8s-cli api start`; stop it where it was started",
                        context.client.url()
                    )));
                }
                None => print_message("no background server found"),
            }
            Ok(())
        }
        ApiCommand::Status(output) => status(context, output.format).await,
        ApiCommand::Logs(args) => {
            let path = daemon::log_path()?;
            match daemon::read_last_lines(&path, args.tail) {
                Ok(lines) => print(&escape_controls(&lines.join("\n"))),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    print_message("no background server found");
                    Ok(())
                }
                Err(error) => Err(Error::file(FileAction::Read, &path)(error)),
            }
        }
        ApiCommand::Serve(args) => Err(Error::Usage(format!("cannot serve on port {} from here", args.port))),
    }
}

/// What `api status` reports. Its fields are stable.
#[derive(Debug, Serialize)]
struct ServerStatus {
    url: String,
    version: String,
    backend: BackendKind,
    /// The version of Kubernetes.
    kubernetes: String,
    namespace: String,
    /// The process of a server that `api start` has started.
    pid: Option<i32>,
}

async fn status(context: &Context, format: ReportFormat) -> Result<()> {
    let version: ServerVersion = context.client.get("/version").await?;
    let url = context.client.url().to_string();
    let daemon = daemon::find_running()?.filter(|daemon| daemon.url == url);
    let status = ServerStatus {
        url,
        version: version.version,
        backend: version.backend,
        kubernetes: version.kubernetes,
        namespace: version.namespace,
        pid: daemon.map(|daemon| daemon.pid),
    };
    print_report(&status, format, describe_status)
}

fn describe_status(status: &ServerStatus) -> String {
    let place = match status.backend {
        BackendKind::Embedded => "this machine".to_owned(),
        BackendKind::Cluster | BackendKind::Other(_) => {
            format!("Kubernetes {}, in namespace `{}`", status.kubernetes, status.namespace)
        }
    };
    let mut text = format!(
        "server:  {}, version {}\ntasks:   on {place}\n",
        status.url, status.version
    );
    if let Some(pid) = status.pid {
        text.push_str(&format!("pid:     {pid}\n"));
    }
    text
}
