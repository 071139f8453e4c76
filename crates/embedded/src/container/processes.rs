//! The processes of a container as its supervisor sees them: the first one, and what is left when that has ended.
//!
//! In a namespace the first process is the reaper of all others, and its end is theirs. Without one the supervisor is their reaper: it
//! takes away those that have ended, tells those that the first process cannot tell, and waits for them.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::begin::{self, Isolation};
use super::family;

/// A container that runs, or has ended.
pub(super) struct Container {
    first: Child,
    isolation: Isolation,
    /// It was told to end.
    is_told: bool,
    /// How its first process has ended.
    status: Option<ExitStatus>,
    /// When the last of its processes was gone.
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

    /// How it has ended, and when, if all of it has.
    pub fn ended(&self) -> Option<(ExitStatus, Instant)> {
        self.status.zip(self.gone)
    }

    /// Whether its first process has ended.
    pub fn is_ending(&self) -> bool {
        self.status.is_some()
    }

    /// Tells it to end (TERM). A first process tells its process group, or all of its namespace. Without a namespace a command such as
    /// `timeout` or `setsid` makes a group that it does not know; those are told from here.
    pub fn tell(&mut self) {
        self.is_told = true;
        if self.isolation == Isolation::None {
            for stranger in family::strangers(self.number()) {
                let _ = kill_process(stranger, Signal::TERM);
            }
        }
        self.signal(Signal::TERM);
    }

    /// Ends all of it at once.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.status.is_some() {
            begin::end_descendants();
        }
    }

    /// Ends all of it at once, and waits until it has.
    pub fn end(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.first.wait();
        begin::end_descendants();
    }

    /// Looks which of its processes have ended.
    pub fn look(&mut self) -> io::Result<()> {
        if self.status.is_none() {
            self.status = self.first.try_wait()?;
        }
        family::reap(self.status.is_none().then(|| self.number()).flatten());
        if self.status.is_none() || self.gone.is_some() {
            return Ok(());
        }
        // What was told may save what it has, until its time is over. What was not told was left behind, and nobody waits for it.
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
        // As long as it was not waited for, the number is its own.
        if let (Some(first), None) = (self.number(), self.status) {
            let _ = kill_process(first, signal);
        }
    }
}
