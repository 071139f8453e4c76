//! Connects to a cluster.

use std::time::Duration;

use kube::client::{AuthError, ClientBuilder};
use tower::BoxError;
use tower::util::MapErrLayer;

use super::{Client, capture, config};
use crate::error::{ConnectError, Error, describe_auth_error};

/// The time limit for the TCP connection and the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the cluster of the kubeconfig, or of the service account of this pod. Sends no request yet, but runs the
/// credential plugin of the kubeconfig.
///
/// # Errors
/// [`Error::NoCluster`] if no cluster is configured, [`Error::Configuration`] if the configuration is invalid.
pub async fn connect() -> Result<Client, Error> {
    let mut config = config::load().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Repeating a POST may create a second object or fail (kube-rs/kube#2082). `ApiClient` retries only what is safe to
    // retry.
    config.default_retry = false;
    let url = config.cluster_url.to_string();
    let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let builder = ClientBuilder::try_from(config).map_err(|error| Error::Configuration {
        reason: match &error {
            kube::Error::Auth(error) => describe_auth_error(error, plugin.as_deref()),
            other => other.to_string(),
        },
    })?;
    let named = MapErrLayer::new(move |error: BoxError| not_reached(error, &url));
    Ok(builder.with_layer(&named).with_layer(&capture::capture_layer()).build())
}

/// Adds the URL to errors that lack it. A credential plugin also fails here when it is run again for new credentials;
/// such an error has nothing to do with the URL.
fn not_reached(error: BoxError, url: &str) -> BoxError {
    if error.is::<kube::Error>() {
        return error;
    }
    match error.downcast::<AuthError>() {
        Ok(error) => Box::new(kube::Error::Auth(*error)),
        Err(source) => Box::new(ConnectError {
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
    use crate::error::describe_kube_error;

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
        let told = describe_kube_error(error.downcast_ref::<kube::Error>().unwrap());
        assert!(told.contains("please log in again") && !told.contains("[112"), "{told}");
    }
}
