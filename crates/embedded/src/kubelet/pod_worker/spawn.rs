//! Starts the shim of a container, or waits for the one that another server started.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::{ExitFuture, PodWorker};
use crate::container::{ContainerSpec, SHIM_ARGUMENT};
use crate::own_program::own_program;

impl PodWorker<'_> {
    /// Starts the shim, and waits until the container runs.
    pub(super) async fn spawn(&self, spec: &ContainerSpec) -> std::io::Result<ExitFuture> {
        self.container_dir.write_spec(spec)?;
        let mut command = Command::new(own_program()?);
        command.arg(SHIM_ARGUMENT).arg(self.container_dir.path());
        // The shim is this same program, so it may need the same settings of the dynamic loader.
        let of_the_loader = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LD_"));
        command
            .env_clear()
            .envs(of_the_loader)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // Dropping the handle does not kill the child, which must outlive this process.
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line).await;
        }
        if line != "started\n" && self.container_dir.started().is_none() {
            let _ = child.wait().await;
            return Err(std::io::Error::other(line.trim_end().to_owned()));
        }
        let container_dir = self.container_dir.clone();
        Ok(Box::pin(async move {
            let _ = child.wait().await;
            // If another shim holds the lock, ours exits immediately: wait for the other one, too.
            let _ = tokio::task::spawn_blocking(move || container_dir.wait_for_shim()).await;
        }))
    }

    /// Waits for a shim that another server started, which is not a child of this process.
    pub(super) fn adopt(&self) -> ExitFuture {
        let container_dir = self.container_dir.clone();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // A separate thread: these waits can be as many as there are containers and last for days. On the runtime's
        // blocking threads, they would keep the server from shutting down.
        let spawned = std::thread::Builder::new()
            .name("adopted".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || {
                let _ = container_dir.wait_for_shim();
                let _ = sender.send(());
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot start a thread to wait for a container");
        }
        Box::pin(async move { drop(receiver.await) })
    }
}
