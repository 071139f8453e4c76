//! A time limit per test, which ends the suite and prints what the test was waiting for.

use std::io::Write;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::{Cluster, from_environment};

/// Time limit of a test, in seconds; `K8S_CLI_E2E_DEADLINE` overrides it. The slowest test takes 60 s on a busy
/// machine.
const SECONDS: usize = 300;

/// Runs from its creation until it is dropped.
///
/// Tests wait for processes and streams in many places, and would otherwise hang silently. A thread cannot be
/// terminated, so the whole suite ends.
pub(crate) struct Deadline {
    _over: Sender<()>,
}

impl Deadline {
    /// Starts the limit of the test that runs in this thread, with its namespace if it has one.
    pub(crate) fn start(cluster: Option<&Cluster>) -> Self {
        let (over, wait) = channel();
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let cluster = cluster.cloned();
        let limit = Duration::from_secs(from_environment("K8S_CLI_E2E_DEADLINE", SECONDS) as u64);
        std::thread::spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let found = cluster.as_ref().map(seen_from_outside).unwrap_or_default();
                // Not `eprintln!`, which the test runner captures until the end of the test.
                let _ = write!(std::io::stderr(), "\n`{test}` timed out after {limit:?}\n{found}");
                let us = std::process::id().to_string();
                let _ = Command::new("pkill").args(["-KILL", "-P", &us]).status();
                std::process::exit(101);
            }
        });
        Self { _over: over }
    }
}

/// Describes pods and events of a namespace, as far as they can be read within a short time.
fn seen_from_outside(cluster: &Cluster) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("cannot create a runtime");
    let found = runtime.block_on(async {
        let describe = async { cluster.reconnected().describe().await };
        match tokio::time::timeout(Duration::from_secs(20), describe).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => format!("cannot read the namespace: {error}\n"),
            Err(_) => "its API server does not respond\n".to_owned(),
        }
    });
    format!("in namespace `{}`:\n{found}", cluster.namespace)
}
