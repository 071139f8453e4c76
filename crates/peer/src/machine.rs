//! Identifies this machine, to tell a server on it from one at the other end of a tunnel.

/// The ID of the last boot of this machine; empty where the system has none. Source: `random(4)`.
#[must_use]
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}
