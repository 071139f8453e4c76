//! Says in the log of a node how much has arrived, if it takes long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use files::HumanSize;

use crate::origin::Observer;

/// How long a download is quiet, and the time between two lines. A log is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// The log of a node.
pub(crate) struct NodeLog(Mutex<Progress>);

/// The progress of one file set.
struct Progress {
    total: u64,
    next: Instant,
}

impl NodeLog {
    pub(crate) fn new() -> Self {
        let next = Instant::now() + INTERVAL;
        Self(Mutex::new(Progress { total: 0, next }))
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for NodeLog {
    fn begin(&self, bytes: u64) {
        self.progress().total = bytes;
    }

    fn written(&self, bytes: u64) {
        let mut progress = self.progress();
        let now = Instant::now();
        if now >= progress.next {
            progress.next = now + INTERVAL;
            eprintln!(
                "[k8s-cli: fetched {} of {} of the task's files]",
                HumanSize(bytes),
                HumanSize(progress.total)
            );
        }
    }

    fn wait(&self, why: &str) {
        eprintln!("[k8s-cli: waiting for the files of the task: {why}]");
    }

    fn resume(&self) {
        eprintln!("[k8s-cli: the file server is responding again]");
    }
}
