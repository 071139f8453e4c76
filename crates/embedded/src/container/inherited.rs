//! Resets what a container would inherit from the server and from whatever started the server.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGSYS, SIGTERM, SIGTRAP,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};

/// All signals that a process can handle, and that are not faults of its own. The standard library resets SIGPIPE.
const SIGNALS: [i32; 23] = [
    SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGSYS, SIGTERM, SIGTRAP,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
];

/// The real-time signals. The C library keeps the first two for itself.
const REAL_TIME_SIGNALS: std::ops::RangeInclusive<i32> = 34..=64;

/// Limit of open files before [`raise_file_limit`].
static INHERITED_OPEN_FILE_LIMIT: OnceLock<u64> = OnceLock::new();

/// Umask of containers. Programs expect that other users can read the files that they install.
const UMASK: Mode = Mode::WGRP.union(Mode::WOTH);

/// Raises this process's limit of open files to the maximum. Every follower is a connection, so the usual soft limit of
/// 1024 is too low. Containers keep the original limit, because old programs close every possible descriptor one by
/// one.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Some(current) = limit.current {
        let _ = INHERITED_OPEN_FILE_LIMIT.set(current);
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// Returns the limit of open files for containers, or `None` if this process never changed its own.
pub(crate) fn open_file_limit() -> Option<u64> {
    INHERITED_OPEN_FILE_LIMIT.get().copied()
}

/// Resets this process. The program that it executes next inherits the result.
pub(super) fn reset_inherited(open_file_limit: Option<u64>) -> io::Result<()> {
    umask(UMASK);
    if let Some(current) = open_file_limit {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = maximum.map_or(current, |maximum| current.min(maximum));
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(current),
                maximum,
            },
        )?;
    }
    // A new program inherits ignored signals as ignored, but signals with a handler as default.
    let flag = Arc::new(AtomicBool::new(false));
    for signal in SIGNALS {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    for signal in REAL_TIME_SIGNALS {
        // musl has one more of its own, and other systems fewer.
        let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
    }
    Ok(())
}
