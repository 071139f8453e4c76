//! The connection to a cluster.

use std::time::Duration;

use kube::client::ClientBuilder;
use tower::BoxError;
use tower::util::MapErrLayer;

use super::{Client, answer, configuration};
use crate::error::{Error, NotReached, credentials};

/// How long a TCP connection and its TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the cluster that the environment names: a kubeconfig, else the service account of the pod we are in.
/// Nothing is sent yet, but a plugin of the kubeconfig is asked for credentials.
///
/// # Errors
/// [`Error::NoCluster`] when nothing names a cluster, [`Error::Configuration`] when what names one is broken.
pub async fn connect() -> Result<Client, Error> {
    let mut config = configuration::find().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // A repeated POST makes a second object, or an error (kube-rs/kube#2082); `Calls` repeats what may be repeated.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let builder = ClientBuilder::try_from(config).map_err(|error| Error::Configuration {
        reason: match &error {
            kube::Error::Auth(error) => credentials(error, plugin.as_deref()),
            other => other.to_string(),
        },
    })?;
    let named = MapErrLayer::new(move |error: BoxError| not_reached(error, &url));
    Ok(builder.with_layer(&named).with_layer(&answer::listening()).build())
}

/// Adds where it was tried to what does not say so.
fn not_reached(error: BoxError, url: &str) -> BoxError {
    if error.is::<kube::Error>() {
        return error;
    }
    Box::new(NotReached {
        url: url.trim_end_matches('/').to_owned(),
        source: error,
    })
}
