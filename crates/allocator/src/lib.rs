//! How this program uses the allocator of the C library.

/// Blocks from this size on are returned to the system when they are freed: contents of files, packs of them, and large
/// responses.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK_BYTES: libc::c_int = 512 << 10;

/// Makes the allocator return large blocks to the system as soon as they are freed. Call it once, first of all.
///
/// Otherwise glibc raises the size from which it does so to that of the largest block that was freed, and keeps blocks of
/// megabytes in the arena of each thread (`M_MMAP_THRESHOLD` in
/// <https://man7.org/linux/man-pages/man3/mallopt.3.html>): a server that had sent 1 GiB to four nodes kept 120 MiB, and 9
/// with this setting, at the same speed. Other allocators do not need it.
pub fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    set_threshold();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "only the C library has this setting")]
fn set_threshold() {
    // SAFETY: it only stores a number. It fails for a threshold above half of an arena, which this one is not.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
    }
}
