//! The connection to a cluster.

use std::time::Duration;

use kube::client::{AuthError, ClientBuilder};
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

/// Adds where it was tried to what does not say so. A plugin that gives no new credentials fails here, too, and was never on the
/// way to anywhere.
fn not_reached(error: BoxError, url: &str) -> BoxError {
    if error.is::<kube::Error>() {
        return error;
    }
    match error.downcast::<AuthError>() {
        Ok(error) => Box::new(kube::Error::Auth(*error)),
        Err(source) => Box::new(NotReached {
            url: url.trim_end_matches('/').to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use kube::client::AuthError;

    use super::not_reached;
    use crate::error::explain;

    #[test]
    fn a_plugin_that_fails_later_is_told_as_one_that_fails_at_the_start() {
        let error = AuthError::AuthExecRun {
            cmd: "a-plugin".to_owned(),
            out: Box::new(Output {
                status: ExitStatus::from_raw(0x100),
                stdout: Vec::new(),
                stderr: b"please log in again\n".to_vec(),
            }),
        };
        let error = not_reached(error.into(), "https://127.0.0.1:6443/");
        let told = explain(error.downcast_ref::<kube::Error>().unwrap());
        assert!(told.contains("please log in again") && !told.contains("[112"), "{told}");
    }
}
