//! What a container would inherit from the server, or from whoever started that, and gets as every container has it.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};

/// How many files a process may open before [`raise_file_limit`].
static OPEN_FILES: OnceLock<u64> = OnceLock::new();

/// The mask for new files in containers: programs expect that others can read what they install.
const MASK: Mode = Mode::WGRP.union(Mode::WOTH);

/// Lets this process open as many files as it may: each follower is a connection, and the usual soft limit of 1024 is too few.
/// Containers get what was before: old programs close every number that they may have, one by one.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Some(current) = limit.current {
        let _ = OPEN_FILES.set(current);
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// How many files a container may open; `None` when this process' own limit was never changed.
pub fn open_files() -> Option<u64> {
    OPEN_FILES.get().copied()
}

/// Gives all of it up; the next program that this process becomes starts without.
pub(super) fn leave(open_files: Option<u64>) -> io::Result<()> {
    umask(MASK);
    if let Some(current) = open_files {
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
    // A signal that is ignored stays ignored in the next program; one that is caught does not.
    for signal in [
        SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
    ] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}
