//! Starts the server, runs it until a signal arrives, and shuts it down.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use archive::{Archive, Limits, Location};
use escape::escape_controls;
use executor::{
    AllowList, DefaultRequests, Defaults, Executor, HelperProgram, KUBELET_SYNC_DELAY, PodSecurity, PodSettings,
    PortExposure, PortIngress, Settings, SharedClaims,
};
use task::wire::BackendKind;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::access::AccessPolicy;
use crate::app::{App, AppState};
use crate::args::{ArchiveChoice, Args, DefaultRequestsChoice, PodSecurityChoice, PortsChoice, SharedClaimsChoice};
use crate::backend::Backend;
use crate::concurrency_limit::ConcurrencyLimit;
use crate::detach::{detach_from_session, keep_files_private};
use crate::file_sets::FileSets;
use crate::limits::RequestLimits;
use crate::telemetry::logging;
use crate::telemetry::metrics::Metrics;
use crate::{listener, openapi, task_files};

/// Runs the server with parsed arguments and returns the exit code of the process.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    keep_files_private();
    if args.background {
        detach_from_session();
    }
    if let Err(error) = logging::init(&args) {
        eprintln!("error: {}", error_line(&error));
        return ExitCode::from(2);
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Formats the chain of causes on one line. Only the first line of each cause is used: a kubeconfig error, e.g., is
/// followed by an excerpt of the file. Some of the text is that of others, e.g., of a credential plugin, and must not
/// control the terminal.
fn error_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.lines().next().unwrap_or_default();
        // Some errors already include their cause.
        if !line.contains(text) {
            let gap = if line.is_empty() { "" } else { ": " };
            line.push_str(&format!("{gap}{text}"));
        }
        // These have their cause in their own words; those below are the words of a library.
        if cause.is::<executor::Error>() {
            break;
        }
    }
    escape_controls(&line)
}

/// Runs the server until SIGTERM or SIGINT.
#[tokio::main]
async fn run(args: Args) -> anyhow::Result<()> {
    embedded::raise_file_limit();
    let stopping = CancellationToken::new();
    stop_on_signal(stopping.clone())?;
    let metrics = Metrics::install(&stopping)?;
    let backend = Backend::choose(&args).await?;
    let archive = open_archive(&args, &backend)?;
    let files = task_files::open(&args, &backend, archive.as_ref())?;
    let settings = Settings {
        archive: archive.clone(),
        files: Some(files.source()),
        ..settings(&args, &backend, task_files::helper(&args, &backend)?)
    };
    let executor = tokio::select! {
        started = Executor::start(backend.client.clone(), settings) => started?,
        () = stopping.cancelled() => {
            backend.stop().await;
            return Ok(());
        }
    };
    let address = SocketAddr::new(args.host, args.port);
    let listener = listener::listen(address)
        .with_context(|| format!("cannot listen on `{address}`; use `--port` to choose another port"))?;
    let address = listener
        .local_addr()
        .context("cannot read the address of the listener")?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the X-User header is trusted; let only an authenticating proxy reach this address");
    }
    files.announce_address(address);
    let namespace = executor.namespace().to_owned();
    let app = AppState(Arc::new(App {
        backend: backend.kind(),
        executor,
        files: files.store,
        file_sets: FileSets::default(),
        max_packed_files: files.max_packed_bytes,
        access: Arc::new(AccessPolicy::new(address, &args)?),
        limits: RequestLimits::new(args.max_streams, args.max_streams_per_user),
        metrics,
        openapi: openapi::document(args.max_nodes, &args.root_path),
        stopping: stopping.clone(),
        max_nodes: args.max_nodes,
        cors_origins: args.cors_origin,
        root_path: args.root_path,
        idle_timeout: args.idle_timeout,
    }));
    tokio::spawn(task_files::prune(app.clone()));
    tracing::info!(event = "listening", %address, namespace, version = env!("CARGO_PKG_VERSION"), "listening");
    let connections = ConcurrencyLimit::new(args.max_connections, args.max_connections_per_client);
    listener::serve(listener, app.clone(), connections).await;
    // Stop the executor before the embedded engine: its last calls still need the Kubernetes API.
    app.executor.shut_down().await;
    backend.stop().await;
    tracing::info!(event = "stopped", "stopped");
    Ok(())
}

/// The pause before the archive is read again after a failure.
const REBUILD_PAUSE: Duration = Duration::from_secs(30);

/// Opens the archive, and begins to read it.
fn open_archive(args: &Args, backend: &Backend) -> anyhow::Result<Option<Archive>> {
    let default = backend.state_dir().map(|dir| Location::folder(dir.join("archive")));
    let location = match &args.archive {
        Some(ArchiveChoice::At(location)) => Some(location.clone()),
        Some(ArchiveChoice::None) => None,
        None => default,
    };
    let Some(location) = location else {
        tracing::info!(
            event = "no_archive",
            "records and logs are deleted with their tasks; to keep them, use `--archive`"
        );
        return Ok(None);
    };
    let index = args.archive_index.clone();
    let index = index.or_else(|| backend.state_dir().map(|dir| dir.join("archive-index")));
    let archive = Archive::open(&location, index, archive_limits(args, backend))?;
    let opened = archive.clone();
    tokio::spawn(async move {
        loop {
            match opened.rebuild_index().await {
                Ok(records) => {
                    tracing::info!(event = "archive_read", records, "the archive is read");
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read the archive; past tasks are missing in lists; retrying")
                }
            }
            tokio::time::sleep(REBUILD_PAUSE).await;
        }
    });
    tracing::info!(event = "archive", %location, "records and logs of tasks are kept");
    Ok(Some(archive))
}

/// The limits of the archive. On this machine, it shares the disk with tasks.
fn archive_limits(args: &Args, backend: &Backend) -> Limits {
    const DEFAULT_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    const DEFAULT_MAX_BYTES: u64 = 10 << 30;
    let local = backend.state_dir().map(|dir| {
        let tenth_of_disk = archive::disk_size(dir).map_or(u64::MAX, |size| size / 10);
        DEFAULT_MAX_BYTES.min(tenth_of_disk)
    });
    Limits {
        max_age: args.archive_max_age.or(local.map(|_| DEFAULT_MAX_AGE)),
        max_bytes: args.archive_max_size.map(|size| size << 20).or(local),
        max_user_bytes: args.archive_max_size_per_user.map(|size| size << 20),
    }
}

/// Settings from the flags that apply to all tasks.
fn settings(args: &Args, backend: &Backend, helper: Option<HelperProgram>) -> Settings {
    Settings {
        namespace: args.namespace.clone(),
        defaults: Defaults {
            max_duration: args.max_duration,
            provision_timeout: args.provision_timeout,
            ttl_after_finished: args.ttl_after_finished,
        },
        pods: PodSettings {
            shares_home: backend.kind() == BackendKind::Embedded,
            security: match args.pod_security {
                PodSecurityChoice::Baseline => PodSecurity::Baseline,
                PodSecurityChoice::Restricted => PodSecurity::Restricted,
            },
            default_image: args.default_image.clone(),
            default_requests: match args.default_requests {
                DefaultRequestsChoice::None => DefaultRequests::None,
                DefaultRequestsChoice::Skypilot => DefaultRequests::SkyPilot,
            },
            allowed_fields: AllowList::from_iter(args.allow_pod_config.iter().cloned())
                .with_service_accounts(args.allow_service_account.clone()),
            ports: match (backend.kind(), args.ports) {
                (BackendKind::Embedded, _) => PortExposure::PodAddress,
                (_, PortsChoice::ClusterIp) => PortExposure::ClusterIp,
                (_, PortsChoice::LoadBalancer) => PortExposure::LoadBalancer,
                (_, PortsChoice::Ingress) => PortExposure::Ingress(PortIngress {
                    domain: args.ingress_domain.clone().unwrap_or_default(),
                    class: args.ingress_class.clone(),
                    tls_secret: args.ingress_tls_secret.clone(),
                }),
            },
            service_account: args.service_account.clone(),
            helper,
        },
        is_autoscaled: args.autoscaled,
        shared_claims: match args.shared_claims {
            SharedClaimsChoice::Any => SharedClaims::Any,
            SharedClaimsChoice::Labelled => SharedClaims::Labeled,
        },
        sync_delay: if backend.kind() == BackendKind::Embedded {
            Duration::ZERO
        } else {
            KUBELET_SYNC_DELAY
        },
        ..Settings::default()
    }
}

fn stop_on_signal(stopping: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    // Catch and ignore SIGHUP, so that the server keeps running when the terminal that started it closes.
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
    tokio::spawn(async move { while hangup.recv().await.is_some() {} });
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!(event = "stopping", "stopping; closing log streams");
        stopping.cancel();
    });
    Ok(())
}
