//! The processes of a container as its supervisor sees them: the first one, and what is left after it has ended.
//!
//! In a PID namespace, the first process reaps all others, and they end with it. Without one, the supervisor is the
//! subreaper: it reaps processes that have ended, sends SIGTERM to those that the first process cannot reach, and waits
//! for them.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::begin::{self, Isolation};
use super::family;

/// A container that runs or has ended.
pub(super) struct Container {
    first: Child,
    isolation: Isolation,
    /// Whether SIGTERM was sent.
    is_told: bool,
    /// Exit status of the first process.
    status: Option<ExitStatus>,
    /// When the last process was gone.
    gone: Option<Instant>,
}

impl Container {
    pub fn new(first: Child, isolation: Isolation) -> Self {
        Self {
            first,
            isolation,
            is_told: false,
            status: None,
            gone: None,
        }
    }

    /// Returns the exit status and when the container ended, once all of its processes are gone.
    pub fn ended(&self) -> Option<(ExitStatus, Instant)> {
        self.status.zip(self.gone)
    }

    /// Whether the first process has ended.
    pub fn is_ending(&self) -> bool {
        self.status.is_some()
    }

    /// Sends SIGTERM. The first process passes it on to its process group, or to its whole namespace. Without a
    /// namespace, commands such as `timeout` or `setsid` create process groups that it doesn't know; those get the
    /// signal from here.
    pub fn tell(&mut self) {
        self.is_told = true;
        if self.isolation == Isolation::None {
            for stranger in family::strangers(self.number()) {
                let _ = kill_process(stranger, Signal::TERM);
            }
        }
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL to all processes.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.status.is_some() {
            begin::end_descendants();
        }
    }

    /// Sends SIGKILL to all processes, and waits until they are gone.
    pub fn end(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.first.wait();
        begin::end_descendants();
    }

    /// Checks which processes have ended.
    pub fn look(&mut self) -> io::Result<()> {
        if self.status.is_none() {
            self.status = self.first.try_wait()?;
        }
        family::reap(self.status.is_none().then(|| self.number()).flatten());
        if self.status.is_none() || self.gone.is_some() {
            return Ok(());
        }
        // After SIGTERM, processes have until the end of the grace period to save their work. Without SIGTERM, they
        // were left behind by the first process, and nobody waits for them.
        if self.isolation == Isolation::Namespaces || !self.is_told {
            begin::end_descendants();
        }
        if family::children().is_empty() {
            self.gone = Some(Instant::now());
        }
        Ok(())
    }

    fn number(&self) -> Option<Pid> {
        i32::try_from(self.first.id()).ok().and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        // Until the process is reaped, no other one can have its PID.
        if let (Some(first), None) = (self.number(), self.status) {
            let _ = kill_process(first, signal);
        }
    }
}
