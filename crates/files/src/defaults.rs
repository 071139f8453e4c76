//! What is left out of a folder unless a pattern asks for it: histories, environments of this machine, and caches.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Left out everywhere, and reported, because a task may need them.
const NAMES: [&str; 6] = [".git", ".hg", ".svn", ".venv", "node_modules", ".terraform"];

/// Left out everywhere, without a report.
const CACHES: [&str; 8] = [
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    ".tox",
    ".nox",
    ".DS_Store",
];

/// Every virtual environment has this file, whatever its name is.
const VENV_MARK: &str = "pyvenv.cfg";

/// Every Conda environment has this folder.
const CONDA_MARK: &str = "conda-meta";

/// The state directory of a server on this machine has this file. It holds the logs, volumes, and secrets of tasks.
const STATE_MARK: &str = "k8s-cli-state";

/// Programs mark their caches with this file, which begins with a signature (<https://bford.info/cachedir/>).
const CACHE_MARK: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What our own cache says of itself.
const OUR_CACHE: &[u8] = b"a cache of k8s-cli";

/// More of a mark is not read.
const MAX_MARK: u64 = 256;

/// Why something is left out by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Somebody may miss it.
    Default,
    /// Nobody misses it.
    Cache,
}

/// Why a path is left out by default, if it is.
pub(crate) fn reason(path: &Path, is_directory: bool) -> Option<Reason> {
    let name = path.file_name().unwrap_or_default();
    let is_one_of = |names: &[&str]| names.iter().any(|known| OsStr::new(known) == name);
    if is_one_of(&CACHES) {
        return Some(Reason::Cache);
    }
    if is_one_of(&NAMES) {
        return Some(Reason::Default);
    }
    if !is_directory {
        return None;
    }
    if path.join(STATE_MARK).is_file() {
        return Some(Reason::Cache);
    }
    if path.join(VENV_MARK).is_file() || path.join(CONDA_MARK).is_dir() {
        return Some(Reason::Default);
    }
    marked_as_cache(path)
}

fn marked_as_cache(folder: &Path) -> Option<Reason> {
    let mut start = Vec::new();
    let mark = open_file(&folder.join(CACHE_MARK))?;
    mark.take(MAX_MARK).read_to_end(&mut start).ok()?;
    let rest = start.strip_prefix(CACHE_SIGNATURE)?;
    let is_ours = memchr::memmem::find(rest, OUR_CACHE).is_some();
    Some(if is_ours { Reason::Cache } else { Reason::Default })
}

/// Opens a file, and nothing else: opening a FIFO would wait for its writer.
pub(crate) fn open_file(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open(path).ok()?;
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}
