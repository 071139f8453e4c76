//! Measures how long it takes to know what is in a folder, with and without the cache: `hashing FOLDER CACHE`.

use std::path::Path;
use std::time::{Duration, Instant};

use files::{Error, HashCache, Limits, Walk};

/// Generous, because only time is measured.
const LIMITS: Limits = Limits {
    max_entries: 1_000_000,
    max_total_bytes: 1 << 40,
    max_manifest_bytes: 1 << 30,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [folder, cache] = &arguments[..] else {
        return Err("usage: hashing FOLDER CACHE".into());
    };
    for run in 1..=2 {
        measure(run, Path::new(folder), Path::new(cache))?;
        // What was written just now is not remembered.
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn measure(run: u32, folder: &Path, cache: &Path) -> Result<(), Error> {
    let start = Instant::now();
    let walk = Walk {
        limits: LIMITS,
        everything: true,
    };
    let selection = walk.folder(folder)?;
    let walked = start.elapsed();
    let cache = HashCache::open(cache);
    let mut first = None;
    let manifest = selection.manifest(&cache, |progress| first = first.or(Some(progress.files)))?;
    let hashed = start.elapsed();
    println!(
        "run {run}: {} files, {} bytes, {} known; walk {:?}, hash {:?}; in all {:?}, {}",
        selection.files(),
        selection.total_bytes(),
        first.unwrap_or_default(),
        walked,
        hashed.saturating_sub(walked),
        hashed,
        manifest.hash()
    );
    Ok(())
}
