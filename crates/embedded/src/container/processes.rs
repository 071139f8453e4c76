//! The processes of a container as its shim sees them: the first one, and what is left after it has ended.
//!
//! In a PID namespace, the init process reaps all others, and they end with it. Without one, the shim is the
//! subreaper: it reaps processes that have ended, sends SIGTERM to those that the init process cannot reach, and waits
//! for them.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::descendants;
use super::init::Isolation;

/// A container that runs or has ended.
pub(super) struct ContainerProcesses {
    init: Child,
    isolation: Isolation,
    /// Whether SIGTERM was sent.
    is_terminating: bool,
    /// Exit status of the init process.
    status: Option<ExitStatus>,
    /// When the last process was gone.
    all_exited_at: Option<Instant>,
}

impl ContainerProcesses {
    pub(crate) fn new(init: Child, isolation: Isolation) -> Self {
        Self {
            init,
            isolation,
            is_terminating: false,
            status: None,
            all_exited_at: None,
        }
    }

    /// Returns the exit status and when the container ended, once all of its processes are gone.
    pub(crate) fn exit(&self) -> Option<(ExitStatus, Instant)> {
        self.status.zip(self.all_exited_at)
    }

    /// Whether the init process has ended.
    pub(crate) fn init_has_exited(&self) -> bool {
        self.status.is_some()
    }

    /// Sends SIGTERM. The init process of a task (`process_one.rs` in the executor) passes it on to its process group, or
    /// to its whole namespace. Without a namespace, commands such as `timeout` or `setsid` create process groups that it
    /// doesn't know; those get the signal from here.
    pub(crate) fn terminate(&mut self) {
        self.is_terminating = true;
        if self.isolation == Isolation::None {
            for process in descendants::list_unreachable(self.init_pid()) {
                let _ = kill_process(process, Signal::TERM);
            }
        }
        self.signal_init(Signal::TERM);
    }

    /// Sends SIGKILL to all processes.
    pub(crate) fn kill(&mut self) {
        self.signal_init(Signal::KILL);
        if self.status.is_some() {
            descendants::kill_all();
        }
    }

    /// Sends SIGKILL to all processes, and waits until they are gone.
    pub(crate) fn kill_and_wait(&mut self) {
        self.signal_init(Signal::KILL);
        let _ = self.init.wait();
        descendants::kill_all();
    }

    /// Checks which processes have ended.
    pub(crate) fn check_exits(&mut self) -> io::Result<()> {
        if self.status.is_none() {
            self.status = self.init.try_wait()?;
        }
        descendants::reap_exited(self.status.is_none().then(|| self.init_pid()).flatten());
        if self.status.is_none() || self.all_exited_at.is_some() {
            return Ok(());
        }
        // After SIGTERM, processes have until the end of the grace period to save their work. Without SIGTERM, they
        // were left behind by the init process, and nobody waits for them.
        if self.isolation == Isolation::Namespaces || !self.is_terminating {
            descendants::kill_all();
        }
        if descendants::children().is_empty() {
            self.all_exited_at = Some(Instant::now());
        }
        Ok(())
    }

    fn init_pid(&self) -> Option<Pid> {
        i32::try_from(self.init.id()).ok().and_then(Pid::from_raw)
    }

    fn signal_init(&self, signal: Signal) {
        // Until the process is reaped, no other one can have its PID.
        if let (Some(init), None) = (self.init_pid(), self.status) {
            let _ = kill_process(init, signal);
        }
    }
}
