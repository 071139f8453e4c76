//! The server from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::middleware::from_fn;
use executor::Executor;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppState};
use crate::args::Args;
use crate::backend::Backend;
use crate::limits::Limits;
use crate::local::local_hosts_only;
use crate::telemetry::metrics::Metrics;
use crate::{listener, openapi, router};

/// Runs the server until it is told to stop by TERM or INT.
///
/// # Errors
/// The cluster cannot be used, or the address is taken.
#[tokio::main]
pub async fn run(args: Args) -> anyhow::Result<()> {
    raise_file_limit();
    let stopping = CancellationToken::new();
    stop_on_signal(stopping.clone())?;
    let metrics = Metrics::install(&stopping)?;
    let backend = Backend::choose(&args).await?;
    let executor = tokio::select! {
        started = Executor::start(backend.client.clone(), args.namespace) => started?,
        () = stopping.cancelled() => {
            backend.stop().await;
            return Ok(());
        }
    };
    let address = SocketAddr::new(args.host, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on `{address}`; choose another port with `--port`"))?;
    let address = listener.local_addr().context("the listener has no address")?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the X-User header is believed; let only a trusted proxy reach this address");
    }
    let namespace = executor.namespace().to_owned();
    let app = AppState(Arc::new(App {
        executor,
        limits: Limits::new(args.max_streams, args.max_streams_per_user),
        metrics,
        openapi: openapi::document(args.max_nodes),
        stopping: stopping.clone(),
        max_nodes: args.max_nodes,
    }));
    tracing::info!(event = "listening", %address, namespace, version = env!("CARGO_PKG_VERSION"), "listening");
    let mut routes = router::router(app.clone());
    if backend.is_this_machine() && address.ip().is_loopback() {
        routes = routes.layer(from_fn(local_hosts_only));
    }
    listener::serve(listener, routes, args.max_connections, stopping).await;
    app.executor.shut_down().await;
    backend.stop().await;
    tracing::info!(event = "stopped", "stopped");
    Ok(())
}

fn stop_on_signal(stopping: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for TERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for INT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(event = "stopping", "stopping; log streams end now");
        stopping.cancel();
    });
    Ok(())
}

/// Every follower is a connection; the usual soft limit of 1024 files is too few for the limits above.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
