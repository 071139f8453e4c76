//! Directories for files of the user.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::error::{Error, Result};

/// The directory for tasks on this machine and for the background server.
pub(crate) fn data() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("K8S_CLI_API_STATE_DIR").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    tokens()
}

/// The directory for the secrets of servers. It does not depend on `K8S_CLI_API_STATE_DIR`, because a client must find
/// the secret of a server whose state directory it does not know.
pub(crate) fn tokens() -> Result<PathBuf> {
    Ok(xdg_base()?.data_dir().join("k8s-cli"))
}

/// The directory for the saved user name.
pub(crate) fn config() -> Result<PathBuf> {
    Ok(xdg_base()?.config_dir().join("k8s-cli"))
}

/// The directory for what can be computed again.
pub(crate) fn cache() -> Result<PathBuf> {
    Ok(xdg_base()?.cache_dir().join("k8s-cli"))
}

fn xdg_base() -> Result<etcetera::base_strategy::Xdg> {
    etcetera::base_strategy::Xdg::new()
        .map_err(|error| Error::Local(format!("cannot determine the home directory: {error}; set HOME")))
}
