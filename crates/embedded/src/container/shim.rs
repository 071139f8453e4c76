//! The shim: starts the container, writes its log, forwards signals, and records how it ended.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setsid;
use signal_hook::consts::{SIGCHLD, SIGTERM, SIGUSR1};

use super::container_dir::{ContainerDir, Started};
use super::cri_log::{LogWriter, OutputStream};
use super::init::{self, INIT_ARGUMENT, Isolation};
use super::processes::ContainerProcesses;
use super::spec::{ContainerOutcome, ContainerSpec};
use crate::files::read_at_most;
use crate::own_program::own_program;

/// Buffer size for reads, in bytes.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How long to wait for output after the container has ended: a process outside of it may hold the pipe open.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to check whether the processes that a container left behind are gone.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often to retry writing the outcome.
const REPORT_RETRY_DELAY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Runs the container in a directory, unless it was already started.
pub(super) fn run_shim(dir: &ContainerDir) -> ExitCode {
    // In a session of its own, it doesn't receive a Ctrl-C from the server's terminal.
    let _ = setsid();
    let mut lock = match dir.try_lock() {
        Ok(Some(lock)) => lock,
        Ok(None) | Err(_) => return ExitCode::FAILURE,
    };
    if dir.started().is_some() {
        return ExitCode::FAILURE;
    }
    let Some(spec) = dir.spec() else {
        return ExitCode::FAILURE;
    };
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    // The record of the start contains the PID, too, so a failure doesn't matter.
    let _ = ContainerDir::write_shim_pid(&mut lock, pid);
    let (mut signals, prepared) = match prepare(dir, &spec, pid) {
        Ok(ready) => ready,
        Err(error) => {
            // The server reads the error, and retries.
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = run_container(dir, &spec, prepared, &mut signals).unwrap_or_else(|error| ContainerOutcome {
        code: 128,
        error: Some(error.to_string()),
        at: Timestamp::now(),
        ..ContainerOutcome::default()
    });
    let written = write_outcome_with_retries(dir, &outcome, &mut signals);
    drop(lock);
    if written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes the outcome, and retries while the disk is full. Returns false after a signal to stop, or if the directory is
/// gone.
fn write_outcome_with_retries(dir: &ContainerDir, outcome: &ContainerOutcome, signals: &mut Signals) -> bool {
    loop {
        match dir.write_outcome(outcome) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(_) => dir.free_space(),
        }
        let streams = [&signals.terminate, &signals.kill];
        let mut all = streams.map(|stream| PollFd::new(stream, PollFlags::IN));
        let _ = poll(&mut all, Some(&REPORT_RETRY_DELAY));
        if drain_signal(&mut signals.terminate) || drain_signal(&mut signals.kill) {
            return dir.write_outcome(outcome).is_ok();
        }
    }
}

/// Everything that the command needs and that can fail. A failure after the start is recorded would end the container.
struct Prepared {
    started: Started,
    isolation: Isolation,
    log: LogWriter,
    output: (PipeReader, PipeWriter),
    errors: (PipeReader, PipeWriter),
    program: PathBuf,
}

fn prepare(dir: &ContainerDir, spec: &ContainerSpec, pid: i32) -> io::Result<(Signals, Prepared)> {
    let signals = Signals::listen()?;
    let prepared = Prepared {
        started: Started {
            shim: pid,
            process: None,
            at: Timestamp::now(),
        },
        log: LogWriter::open(&dir.log(), spec.log_limit)?,
        isolation: init::isolate(),
        output: io::pipe()?,
        errors: io::pipe()?,
        program: own_program()?,
    };
    // Record the start before the command runs: it must not run twice, even if this process is killed in between.
    dir.record_start(&prepared.started)?;
    Ok((signals, prepared))
}

fn run_container(
    dir: &ContainerDir,
    spec: &ContainerSpec,
    prepared: Prepared,
    signals: &mut Signals,
) -> io::Result<ContainerOutcome> {
    let Prepared {
        mut started,
        isolation,
        log,
        output: (output, output_end),
        errors: (errors, errors_end),
        program,
    } = prepared;
    let child = Command::new(program)
        .arg(INIT_ARGUMENT)
        .arg(dir.path())
        .env_clear()
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .env(init::ISOLATION_VARIABLE, isolation.as_str())
        .stdin(Stdio::null())
        .stdout(output_end)
        .stderr(errors_end)
        .spawn()?;
    started.process = i32::try_from(child.id()).ok();
    // Only probes need the PID, so the command runs even if this fails.
    let _ = dir.write_started(&started);
    report_started();
    let mut shim = Shim {
        container: ContainerProcesses::new(child, isolation),
        log,
        pipes: [
            Some((output, OutputStream::new("stdout"))),
            Some((errors, OutputStream::new("stderr"))),
        ],
        signals,
    };
    let exited = shim.wait_for_exit();
    if exited.is_err() {
        // Nobody would write its log or report its end.
        shim.container.kill_and_wait();
    }
    let status = exited?;
    let mut log = shim.log;
    if log.lost() > 0 {
        dir.free_space();
        log.write_loss_notice();
    }
    // Sync before reporting the end: once the end is visible, the log must be complete, even after a power cut.
    let _ = log.sync();
    let error = read_start_error(dir);
    Ok(ContainerOutcome {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        signal: status.signal(),
        out_of_memory: was_oom_killed(spec),
        error,
        at: Timestamp::now(),
        lost_log_bytes: log.lost(),
    })
}

/// Reads the init process's error. The command can write to that file, too.
fn read_start_error(dir: &ContainerDir) -> Option<String> {
    const MAX: u64 = 4096;
    let bytes = read_at_most(&dir.error(), MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}

/// Reports to the server, if it is still there, that the container runs.
fn report_started() {
    use std::io::Write;
    let _ = io::stdout().write_all(b"started\n");
    let _ = io::stdout().flush();
    // The server may be gone, so write nothing more to the pipe.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// The relevant signals, as bytes in sockets that `poll` can wait for.
struct Signals {
    child: UnixStream,
    terminate: UnixStream,
    kill: UnixStream,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let stream = |signal| {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(signal, writer)?;
            Ok::<_, io::Error>(reader)
        };
        Ok(Self {
            child: stream(SIGCHLD)?,
            terminate: stream(SIGTERM)?,
            kill: stream(SIGUSR1)?,
        })
    }
}

fn drain_signal(stream: &mut UnixStream) -> bool {
    let mut bytes = [0; 16];
    stream.read(&mut bytes).is_ok_and(|count| count > 0)
}

struct Shim<'a> {
    container: ContainerProcesses,
    log: LogWriter,
    pipes: [Option<(PipeReader, OutputStream)>; 2],
    signals: &'a mut Signals,
}

impl Shim<'_> {
    /// Runs until the container has ended and all of its output is in the log.
    fn wait_for_exit(&mut self) -> io::Result<ExitStatus> {
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            if let Some((status, at)) = self.container.exit()
                && (self.pipes.iter().all(Option::is_none) || at.elapsed() > DRAIN_TIMEOUT)
            {
                for (_, stream) in self.pipes.iter_mut().flatten() {
                    self.log.write_partial_line(stream);
                }
                return Ok(status);
            }
            let ready = self.poll_events()?;
            for (index, is_ready) in ready.into_iter().enumerate() {
                if is_ready {
                    self.read_pipe(index, &mut buffer)?;
                }
            }
            self.write_due_partial_lines();
            self.handle_signals()?;
        }
    }

    /// Writes the incomplete lines that are due.
    fn write_due_partial_lines(&mut self) {
        let now = Instant::now();
        for (_, stream) in self.pipes.iter_mut().flatten() {
            if stream.due().is_some_and(|due| due <= now) {
                self.log.write_partial_line(stream);
            }
        }
    }

    /// Returns the maximum time to wait for an event.
    fn poll_timeout(&self) -> Option<Timespec> {
        let parts = self.pipes.iter().flatten().filter_map(|(_, stream)| stream.due());
        let end = self
            .container
            .init_has_exited()
            .then(|| Instant::now() + EXIT_POLL_INTERVAL);
        let due = parts.chain(end).min()?;
        // Wait slightly longer, so that the time has passed when `poll` returns.
        let wait = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec::try_from(wait).ok()
    }

    /// Waits for an event. Returns which pipes are readable.
    fn poll_events(&self) -> io::Result<[bool; 2]> {
        let signals = [&self.signals.child, &self.signals.terminate, &self.signals.kill];
        let mut all: Vec<PollFd<'_>> = signals.map(|stream| PollFd::new(stream, PollFlags::IN)).into();
        let mut polled = Vec::new();
        for (index, pipe) in self.pipes.iter().enumerate() {
            if let Some((pipe, _)) = pipe {
                all.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
                polled.push(index);
            }
        }
        let limit = self.poll_timeout();
        match poll(&mut all, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = [false; 2];
        for (slot, index) in all[3..].iter().zip(polled) {
            ready[index] = !slot.revents().is_empty();
        }
        Ok(ready)
    }

    fn read_pipe(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some((pipe, stream)) = &mut self.pipes[index] else {
            return Ok(());
        };
        match pipe.read(buffer) {
            Ok(0) => {
                self.log.write_partial_line(stream);
                self.pipes[index] = None;
            }
            Ok(count) => self.log.write_output(stream, &buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Handles the signals that have arrived.
    fn handle_signals(&mut self) -> io::Result<()> {
        if drain_signal(&mut self.signals.terminate) {
            self.container.terminate();
        }
        if drain_signal(&mut self.signals.kill) {
            self.container.kill();
        }
        if drain_signal(&mut self.signals.child) || self.container.init_has_exited() {
            self.container.check_exits()?;
        }
        Ok(())
    }
}

/// Whether the kernel killed a process of the container that exceeded its memory limit.
fn was_oom_killed(spec: &ContainerSpec) -> bool {
    let counts = |file: &str, key: &str| {
        spec.cgroups.iter().any(|group| {
            let text = std::fs::read_to_string(group.join(file)).unwrap_or_default();
            let found = text.lines().filter_map(|line| line.strip_prefix(key));
            found
                .filter_map(|count| count.trim().parse::<u64>().ok())
                .any(|count| count > 0)
        })
    };
    counts("memory.events", "oom_kill ") || counts("memory.oom_control", "oom_kill ")
}

#[cfg(test)]
mod tests {
    use super::{ContainerDir, ContainerSpec, prepare};

    #[test]
    fn what_fails_before_the_command_leaves_it_to_be_tried_again() {
        let path = std::env::temp_dir().join(format!("k8s-cli-prepare-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let dir = ContainerDir::at(path.clone());
        // With a file in its place, the log cannot be created, as on a full disk.
        std::fs::write(dir.log(), "").unwrap();
        let spec = ContainerSpec {
            command: vec!["true".to_owned()],
            environment: Vec::new(),
            working_dir: None,
            hostname: "host".to_owned(),
            mounts: Vec::new(),
            log_limit: 1 << 20,
            cgroups: Vec::new(),
            open_file_limit: None,
        };
        assert!(prepare(&dir, &spec, 1).is_err());
        assert_eq!(dir.started(), None);
        std::fs::remove_dir_all(path).unwrap();
    }
}
