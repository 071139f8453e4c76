//! A test that hangs ends the suite, and says what it waited for.

use std::io::Write;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::{Cluster, from_environment};

/// How long a test may take, in seconds; `K8S_CLI_E2E_DEADLINE` changes it. The slowest takes 60 on a busy machine.
const SECONDS: usize = 300;

/// Runs from its making until it is dropped.
///
/// Tests wait for processes and streams in many places, and a wait that nothing ends would say nothing for as long as
/// somebody lets it. A thread cannot be ended from outside, so that the whole suite ends.
pub struct Deadline {
    _over: Sender<()>,
}

impl Deadline {
    /// For the test that runs in this thread, with its namespace if it has one.
    pub(crate) fn start(cluster: Option<&Cluster>) -> Self {
        let (over, wait) = channel();
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let cluster = cluster.cloned();
        let limit = Duration::from_secs(from_environment("K8S_CLI_E2E_DEADLINE", SECONDS) as u64);
        std::thread::spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let found = cluster.as_ref().map(seen_from_outside).unwrap_or_default();
                // Not `eprintln!`, which the runner of tests keeps to itself until the test has ended.
                let _ = write!(std::io::stderr(), "\n`{test}` has not ended after {limit:?}\n{found}");
                let us = std::process::id().to_string();
                let _ = Command::new("pkill").args(["-KILL", "-P", &us]).status();
                std::process::exit(101);
            }
        });
        Self { _over: over }
    }
}

/// Pods and events of the namespace, by its name, as far as they can be had soon.
fn seen_from_outside(cluster: &Cluster) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let found = runtime.block_on(async {
        let describe = async { cluster.again().describe().await };
        match tokio::time::timeout(Duration::from_secs(20), describe).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => format!("nothing could be read: {error}\n"),
            Err(_) => "its API server does not answer\n".to_owned(),
        }
    });
    format!("in namespace `{}`:\n{found}", cluster.namespace)
}
