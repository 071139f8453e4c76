//! Detaches a background server from the process that starts it.

use rustix::fs::Mode;
use rustix::process::{setsid, umask};

/// Starts a new session. `k8s-cli api start` has already closed its open files and changed the
/// working directory. Ignored signals stay ignored here, but containers start with the default dispositions.
pub(crate) fn detach_from_session() {
    // Fails only if the process already leads a session.
    let _ = setsid();
}

/// Lets other users read nothing that the server writes. Containers set the usual umask themselves.
pub(crate) fn keep_files_private() {
    umask(Mode::RWXG | Mode::RWXO);
}
