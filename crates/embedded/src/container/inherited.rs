//! Resets what a container would inherit from the server and from whatever started the server.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};

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
    for signal in [
        SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
    ] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}
