//! Calls `unshare`, the crate's only unsafe call.

use rustix::thread::UnshareFlags;

/// Moves this process into new namespaces.
#[expect(unsafe_code, reason = "some flags affect the open files of other threads")]
pub(super) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the processes that call this are single-threaded, and none passes `FILES` or `FS`.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
