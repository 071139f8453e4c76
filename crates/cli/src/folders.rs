//! Where files of the person are.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::error::{Error, Result};

/// Of tasks of this machine, and of the server in the background.
///
/// # Errors
/// The home folder is not known.
pub fn data() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("K8S_CLI_API_STATE_DIR") {
        return Ok(folder.into());
    }
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
