//! A server in the background keeps nothing of whoever started it.

use rustix::fs::Mode;
use rustix::process::{setsid, umask};

/// Leaves the starter's session and its mask for new files. Its open files were closed and its folder left before; the signals
/// that it ignored are this process' concern, and containers begin with none.
pub fn enter() {
    // Fails only where it leads a session already.
    let _ = setsid();
    // What a server writes is nobody else's business. Containers have the usual mask.
    umask(Mode::RWXG | Mode::RWXO);
}
