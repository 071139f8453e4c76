//! What the kubelet shares with the workers of its pods.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::cgroups::Cgroups;
use super::dir_watcher::DirWatcher;
use super::pod_ips::PodIps;
use super::trash::Trash;
use crate::blocking::BlockingPool;
use crate::container::ContainerDir;
use crate::store::Store;

/// Settings of a kubelet.
#[derive(Debug, Clone)]
pub(crate) struct KubeletConfig {
    /// State directory.
    pub state_dir: PathBuf,
    /// Size limit for the log of one pod, in bytes.
    pub log_limit: u64,
    /// Size limit for the logs of all pods together, in bytes.
    pub total_log_limit: u64,
}

pub(super) struct KubeletContext {
    pub store: Arc<Store>,
    pub config: KubeletConfig,
    pub pod_ips: PodIps,
    pub cgroups: Cgroups,
    pub log_watcher: DirWatcher,
    pub blocking_pool: BlockingPool,
    pub trash: Trash,
    pub stopping: CancellationToken,
}

impl KubeletContext {
    pub(crate) fn new(store: Arc<Store>, config: KubeletConfig, stopping: CancellationToken) -> io::Result<Self> {
        Ok(Self {
            trash: Trash::open(&config.state_dir)?,
            store,
            config,
            pod_ips: PodIps::default(),
            cgroups: Cgroups::detect(),
            log_watcher: DirWatcher::start(),
            blocking_pool: BlockingPool::default(),
            stopping,
        })
    }

    /// Returns the directory of a pod's container.
    pub(crate) fn container_dir(&self, uid: &str) -> ContainerDir {
        ContainerDir::at(self.config.state_dir.join("pods").join(uid))
    }

    /// Returns the directory of a claim.
    pub(crate) fn volume_dir(&self, uid: &str) -> PathBuf {
        self.config.state_dir.join("volumes").join(uid)
    }
}
