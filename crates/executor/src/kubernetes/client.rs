//! The connection to a cluster.

use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{Config, KubeConfigOptions, KubeconfigError};

use super::{Client, answer};
use crate::error::Error;

/// How long a TCP connection and its TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the cluster that the environment names: a kubeconfig, else the service account of the pod we are in.
/// Nothing is sent yet.
///
/// # Errors
/// [`Error::NoCluster`] when nothing names a cluster, [`Error::Configuration`] when what names one is broken.
pub async fn connect() -> Result<Client, Error> {
    let mut config = configuration().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A repeated POST makes a second object, or an error (kube-rs/kube#2082); `Calls` repeats what may be repeated.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).map_err(|source| Error::Configuration {
        source: Box::new(source),
    })?;
    Ok(builder.with_layer(&answer::listening()).build())
}

/// `Config::infer` would go on to the pod's account after a broken kubeconfig; a broken one must be an error.
async fn configuration() -> Result<Config, Error> {
    match Config::from_kubeconfig(&KubeConfigOptions::default()).await {
        Ok(config) => Ok(config),
        Err(source) if !is_absent(&source) => Err(Error::Configuration {
            source: Box::new(source),
        }),
        Err(_) if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() => Err(Error::NoCluster),
        Err(_) => Config::incluster().map_err(|source| Error::Configuration {
            source: Box::new(source),
        }),
    }
}

fn is_absent(error: &KubeconfigError) -> bool {
    let asked_for = std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty());
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == std::io::ErrorKind::NotFound && !asked_for,
        _ => false,
    }
}
