//! The server from its start to its end.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use executor::{Defaults, Executor, KUBELET_HEARS_WITHIN, PodSecurity, PodSettings, Settings, SharedClaims};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppState};
use crate::args::{Args, PodSecurityChoice, SharedClaimsChoice};
use crate::backend::Backend;
use crate::guard::Guard;
use crate::limits::Limits;
use crate::shares::Shares;
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;
use crate::{background, listener, openapi};

/// The whole program, for who has read its command line.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    if args.background {
        background::enter();
    }
    if let Err(error) = logging::init(&args) {
        eprintln!("error: {}", sentence(&error));
        return ExitCode::from(2);
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The whole chain of causes in one line; some of them have a picture of the file below their first line.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let cause = cause.lines().next().unwrap_or_default();
        // Some say their causes themselves.
        if !sentence.contains(cause) {
            let gap = if sentence.is_empty() { "" } else { ": " };
            sentence.push_str(&format!("{gap}{cause}"));
        }
    }
    sentence
}

/// Runs the server until it is told to stop by TERM or INT.
///
/// # Errors
/// The cluster cannot be used, or the address is taken.
#[tokio::main]
async fn run(args: Args) -> anyhow::Result<()> {
    embedded::raise_file_limit();
    let stopping = CancellationToken::new();
    stop_on_signal(stopping.clone())?;
    let metrics = Metrics::install(&stopping)?;
    let backend = Backend::choose(&args).await?;
    let executor = tokio::select! {
        started = Executor::start(backend.client.clone(), settings(&args, &backend)) => started?,
        () = stopping.cancelled() => {
            backend.stop().await;
            return Ok(());
        }
    };
    let address = SocketAddr::new(args.host, args.port);
    let listener = listener::listen(address)
        .with_context(|| format!("cannot listen on `{address}`; choose another port with `--port`"))?;
    let address = listener.local_addr().context("the listener has no address")?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the X-User header is believed; let only a trusted proxy reach this address");
    }
    let namespace = executor.namespace().to_owned();
    let app = AppState(Arc::new(App {
        backend: backend.name(),
        executor,
        guard: Arc::new(Guard::new(address, &args)?),
        limits: Limits::new(args.max_streams, args.max_streams_per_user),
        metrics,
        openapi: openapi::document(args.max_nodes),
        stopping: stopping.clone(),
        max_nodes: args.max_nodes,
    }));
    tracing::info!(event = "listening", %address, namespace, version = env!("CARGO_PKG_VERSION"), "listening");
    let connections = Shares::new(args.max_connections, args.max_connections_per_client);
    listener::serve(listener, app.clone(), connections).await;
    app.executor.shut_down().await;
    backend.stop().await;
    tracing::info!(event = "stopped", "stopped");
    Ok(())
}

/// What the operator has decided for all tasks.
fn settings(args: &Args, backend: &Backend) -> Settings {
    Settings {
        namespace: args.namespace.clone(),
        defaults: Defaults {
            max_duration: args.max_duration,
            provision_timeout: args.provision_timeout,
            ttl_after_finished: args.ttl_after_finished,
        },
        pods: PodSettings {
            security: match args.pod_security {
                PodSecurityChoice::Baseline => PodSecurity::Baseline,
                PodSecurityChoice::Restricted => PodSecurity::Restricted,
            },
            service_account: args.service_account.clone(),
        },
        shared_claims: match args.shared_claims {
            SharedClaimsChoice::Any => SharedClaims::Any,
            SharedClaimsChoice::Labelled => SharedClaims::Labelled,
        },
        hears_within: match backend.is_this_machine() {
            true => Duration::ZERO,
            false => KUBELET_HEARS_WITHIN,
        },
        ..Settings::default()
    }
}

fn stop_on_signal(stopping: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for TERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for INT")?;
    // The end of the terminal it was started from is not the end of a server.
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for HUP")?;
    tokio::spawn(async move { while hangup.recv().await.is_some() {} });
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
