//! Where files of the person are.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::error::{Error, Result};

/// Of tasks of this machine, and of the server in the background.
///
/// # Errors
/// The home folder is not known.
pub fn data() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("K8S_CLI_API_STATE_DIR").filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    tokens()
}

/// Of what proves that a server is the person's own. It is the same whatever state folder a server was given.
///
/// # Errors
/// The home folder is not known.
pub fn tokens() -> Result<PathBuf> {
    Ok(base()?.data_dir().join("k8s-cli"))
}

/// Of who the person is.
///
/// # Errors
/// The home folder is not known.
pub fn config() -> Result<PathBuf> {
    Ok(base()?.config_dir().join("k8s-cli"))
}

fn base() -> Result<etcetera::base_strategy::Xdg> {
    etcetera::base_strategy::Xdg::new()
        .map_err(|error| Error::Local(format!("the home folder is not known: {error}; set HOME")))
}
