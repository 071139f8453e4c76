//! The one call that the compiler cannot vouch for.

use rustix::thread::UnshareFlags;

/// Gives this process namespaces of its own.
#[expect(
    unsafe_code,
    reason = "with other flags the call could pull files from under other threads"
)]
pub(super) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the processes that call this have one thread, and none passes FILES or FS.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
