//! `k8s-cli api`: manages the server on this machine.

use std::io::ErrorKind;

use task::wire::{BackendKind, ServerVersion};

use crate::args::ApiCommand;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::local;
use crate::output::{plain, print, say};

/// Runs all subcommands but `serve`, which has its own runtime and is handled in [`crate::run`].
pub async fn run(context: &Context, command: ApiCommand) -> Result<()> {
    match command {
        ApiCommand::Start => {
            if local::answers(&context.client).await? {
                say(&format!("a server is already running at {}", context.client.url()));
                return Ok(());
            }
            local::start(&context.client).await
        }
        ApiCommand::Stop => {
            match local::stop().await? {
                Some(stopped) => say(&format!(
                    "stopped the server at {} (PID {}); tasks on this machine keep running",
                    stopped.url, stopped.pid
                )),
                None if local::answers(&context.client).await.unwrap_or(false) => {
                    return Err(Error::Local(format!(
                        "the server at {} was not started by `k8s-cli api start`; stop it where it was started",
                        context.client.url()
                    )));
                }
                None => say("no background server found"),
            }
            Ok(())
        }
        ApiCommand::Status => status(context).await,
        ApiCommand::Logs(args) => {
            let path = local::log_path()?;
            match local::last_lines(&path, args.tail) {
                Ok(lines) => print(&plain(&lines.join("\n"))),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    say("no background server found");
                    Ok(())
                }
                Err(source) => Err(Error::File {
                    action: "read",
                    path,
                    source,
                }),
            }
        }
        ApiCommand::Serve(args) => Err(Error::Usage(format!("cannot serve on port {} from here", args.port))),
    }
}

async fn status(context: &Context) -> Result<()> {
    let version: ServerVersion = context.client.get("/version").await?;
    let place = match version.backend {
        BackendKind::Embedded => "this machine".to_owned(),
        BackendKind::Cluster | BackendKind::Other(_) => format!(
            "Kubernetes {}, in namespace `{}`",
            version.kubernetes, version.namespace
        ),
    };
    let mut text = format!(
        "server:  {}, version {}\ntasks:   on {place}\n",
        context.client.url(),
        version.version
    );
    if let Some(running) = local::running()?.filter(|running| running.url == context.client.url().to_string()) {
        text.push_str(&format!("pid:     {}\n", running.pid));
    }
    print(&text)
}
