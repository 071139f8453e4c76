//! Limits of a set of files, and sizes in human-readable form.

use std::fmt;

/// How much a set of files may be. The caller decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most entries: files, folders, and links.
    pub max_entries: usize,
    /// The most bytes of all files together.
    pub max_total_bytes: u64,
    /// The largest manifest, in bytes. An entry takes about 60 bytes and its path; a file 75 more per 4 MiB.
    pub max_manifest_bytes: usize,
}

impl Limits {
    /// For a set that somebody has checked already.
    pub const NONE: Self = Self {
        max_entries: usize::MAX,
        max_total_bytes: u64::MAX,
        max_manifest_bytes: usize::MAX,
    };
}

/// A size in human-readable form, e.g., `1.5 MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanSize(pub u64);

impl fmt::Display for HumanSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(formatter, "{} B", self.0);
        }
        // In tenths, so that nothing is rounded up to 1024.
        let mut tenths = self.0.saturating_mul(10) / 1024;
        if self.0 > u64::MAX / 10 {
            tenths = self.0 / 1024 * 10;
        }
        let mut unit = 0;
        while tenths >= 10_240 && unit + 1 < UNITS.len() {
            tenths /= 1024;
            unit += 1;
        }
        if tenths < 100 && !tenths.is_multiple_of(10) {
            write!(formatter, "{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
        } else {
            write!(formatter, "{} {}", tenths / 10, UNITS[unit])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HumanSize;

    #[test]
    fn a_size_is_short_and_not_more_than_it_is() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023 KiB"),
            (12 << 20, "12 MiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(HumanSize(bytes).to_string(), text);
        }
    }
}
