//! The supervisor: starts the container, writes its log, forwards signals, and records how it ended.

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

use super::begin::{self, BEGIN, Isolation};
use super::folder::{Folder, Started};
use super::order::{Order, Outcome};
use super::processes::Container;
use super::record::{Recorder, Stream};
use crate::files::read_beginning;

/// Buffer size for reads, in bytes.
const READ: usize = 64 * 1024;

/// How long to wait for output after the container has ended: a process outside of it may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(2);

/// How often to check whether the processes that a container left behind are gone.
const LOOK: Duration = Duration::from_millis(100);

/// How often to retry writing the outcome.
const REPORT_PAUSE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Runs the container in a directory, unless it was already started.
pub(super) fn run(folder: &Folder) -> ExitCode {
    // In a session of its own, it doesn't receive a Ctrl-C from the server's terminal.
    let _ = setsid();
    let mut lock = match folder.take() {
        Ok(Some(lock)) => lock,
        Ok(None) | Err(_) => return ExitCode::FAILURE,
    };
    if folder.started().is_some() {
        return ExitCode::FAILURE;
    }
    let Some(order) = folder.order() else {
        return ExitCode::FAILURE;
    };
    let number = i32::try_from(std::process::id()).unwrap_or(0);
    // The record of the start contains the PID, too, so a failure doesn't matter.
    let _ = Folder::sign(&mut lock, number);
    let (mut signals, prepared) = match prepare(folder, &order, number) {
        Ok(ready) => ready,
        Err(error) => {
            // The server reads the error, and retries.
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = supervise(folder, &order, prepared, &mut signals).unwrap_or_else(|error| Outcome {
        code: 128,
        error: Some(error.to_string()),
        at: Timestamp::now(),
        ..Outcome::default()
    });
    let written = report(folder, &outcome, &mut signals);
    drop(lock);
    if written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes the outcome, and retries while the disk is full. Returns false after a signal to stop, or if the directory is
/// gone.
fn report(folder: &Folder, outcome: &Outcome, signals: &mut Signals) -> bool {
    loop {
        match folder.write_outcome(outcome) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(_) => folder.make_room(),
        }
        let streams = [&signals.terminate, &signals.kill];
        let mut all = streams.map(|stream| PollFd::new(stream, PollFlags::IN));
        let _ = poll(&mut all, Some(&REPORT_PAUSE));
        if came(&mut signals.terminate) || came(&mut signals.kill) {
            return folder.write_outcome(outcome).is_ok();
        }
    }
}

/// Everything that the command needs and that can fail. A failure after the start is recorded would end the container.
struct Prepared {
    started: Started,
    isolation: Isolation,
    recorder: Recorder,
    output: (PipeReader, PipeWriter),
    errors: (PipeReader, PipeWriter),
    program: PathBuf,
}

fn prepare(folder: &Folder, order: &Order, number: i32) -> io::Result<(Signals, Prepared)> {
    let signals = Signals::listen()?;
    let prepared = Prepared {
        started: Started {
            supervisor: number,
            process: None,
            at: Timestamp::now(),
        },
        recorder: Recorder::open(&folder.log(), order.log_limit)?,
        isolation: begin::separate(),
        output: io::pipe()?,
        errors: io::pipe()?,
        program: std::env::current_exe()?,
    };
    // Record the start before the command runs: it must not run twice, even if this process is killed in between.
    folder.begin(&prepared.started)?;
    Ok((signals, prepared))
}

fn supervise(folder: &Folder, order: &Order, prepared: Prepared, signals: &mut Signals) -> io::Result<Outcome> {
    let Prepared {
        mut started,
        isolation,
        recorder,
        output: (output, output_end),
        errors: (errors, errors_end),
        program,
    } = prepared;
    let child = Command::new(program)
        .arg(BEGIN)
        .arg(folder.path())
        .env_clear()
        .envs(order.environment.iter().map(|(name, value)| (name, value)))
        .env(begin::ISOLATION, isolation.word())
        .stdin(Stdio::null())
        .stdout(output_end)
        .stderr(errors_end)
        .spawn()?;
    started.process = i32::try_from(child.id()).ok();
    // Only probes need the PID, so the command runs even if this fails.
    let _ = folder.write_started(&started);
    announce();
    let mut supervisor = Supervisor {
        container: Container::new(child, isolation),
        recorder,
        pipes: [
            Some((output, Stream::new("stdout"))),
            Some((errors, Stream::new("stderr"))),
        ],
        signals,
    };
    let attended = supervisor.attend();
    if attended.is_err() {
        // Nobody would write its log or report its end.
        supervisor.container.end();
    }
    let status = attended?;
    let mut recorder = supervisor.recorder;
    if recorder.lost() > 0 {
        folder.make_room();
        recorder.tell_what_is_lost();
    }
    // Sync before reporting the end: once the end is visible, the log must be complete, even after a power cut.
    let _ = recorder.sync();
    let error = why_it_did_not_begin(folder);
    Ok(Outcome {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        signal: status.signal(),
        out_of_memory: out_of_memory(order),
        error,
        at: Timestamp::now(),
        lost_log_bytes: recorder.lost(),
    })
}

/// Reads the launcher's error. The command can write to that file, too.
fn why_it_did_not_begin(folder: &Folder) -> Option<String> {
    const MAX: u64 = 4096;
    let bytes = read_beginning(&folder.error(), MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}

/// Reports to the server, if it is still there, that the container runs.
fn announce() {
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

fn came(stream: &mut UnixStream) -> bool {
    let mut bytes = [0; 16];
    stream.read(&mut bytes).is_ok_and(|count| count > 0)
}

struct Supervisor<'a> {
    container: Container,
    recorder: Recorder,
    pipes: [Option<(PipeReader, Stream)>; 2],
    signals: &'a mut Signals,
}

impl Supervisor<'_> {
    /// Runs until the container has ended and all of its output is in the log.
    fn attend(&mut self) -> io::Result<ExitStatus> {
        let mut buffer = vec![0; READ];
        loop {
            if let Some((status, at)) = self.container.ended()
                && (self.pipes.iter().all(Option::is_none) || at.elapsed() > DRAIN)
            {
                for (_, stream) in self.pipes.iter_mut().flatten() {
                    self.recorder.write_part(stream);
                }
                return Ok(status);
            }
            let ready = self.wait()?;
            for (index, is_ready) in ready.into_iter().enumerate() {
                if is_ready {
                    self.read(index, &mut buffer)?;
                }
            }
            self.show_parts();
            self.heed()?;
        }
    }

    /// Writes the incomplete lines that are due.
    fn show_parts(&mut self) {
        let now = Instant::now();
        for (_, stream) in self.pipes.iter_mut().flatten() {
            if stream.due().is_some_and(|due| due <= now) {
                self.recorder.write_part(stream);
            }
        }
    }

    /// Returns the maximum time to wait for an event.
    fn patience(&self) -> Option<Timespec> {
        let parts = self.pipes.iter().flatten().filter_map(|(_, stream)| stream.due());
        let end = self.container.is_ending().then(|| Instant::now() + LOOK);
        let due = parts.chain(end).min()?;
        // Wait slightly longer, so that the time has passed when `poll` returns.
        let wait = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec::try_from(wait).ok()
    }

    /// Waits for an event. Returns which pipes are readable.
    fn wait(&self) -> io::Result<[bool; 2]> {
        let signals = [&self.signals.child, &self.signals.terminate, &self.signals.kill];
        let mut all: Vec<PollFd<'_>> = signals.map(|stream| PollFd::new(stream, PollFlags::IN)).into();
        let mut order = Vec::new();
        for (index, pipe) in self.pipes.iter().enumerate() {
            if let Some((pipe, _)) = pipe {
                all.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
                order.push(index);
            }
        }
        let limit = self.patience();
        match poll(&mut all, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = [false; 2];
        for (slot, index) in all[3..].iter().zip(order) {
            ready[index] = !slot.revents().is_empty();
        }
        Ok(ready)
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some((pipe, stream)) = &mut self.pipes[index] else {
            return Ok(());
        };
        match pipe.read(buffer) {
            Ok(0) => {
                self.recorder.write_part(stream);
                self.pipes[index] = None;
            }
            Ok(count) => self.recorder.take(stream, &buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Handles the signals that have arrived.
    fn heed(&mut self) -> io::Result<()> {
        if came(&mut self.signals.terminate) {
            self.container.tell();
        }
        if came(&mut self.signals.kill) {
            self.container.kill();
        }
        if came(&mut self.signals.child) || self.container.is_ending() {
            self.container.look()?;
        }
        Ok(())
    }
}

/// Whether the kernel killed a process of the container that exceeded its memory limit.
fn out_of_memory(order: &Order) -> bool {
    let counts = |file: &str, key: &str| {
        order.control_groups.iter().any(|group| {
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
    use super::{Folder, Order, prepare};

    #[test]
    fn what_fails_before_the_command_leaves_it_to_be_tried_again() {
        let path = std::env::temp_dir().join(format!("k8s-cli-prepare-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let folder = Folder::at(path.clone());
        // With a file in its place, the log cannot be created, as on a full disk.
        std::fs::write(folder.log(), "").unwrap();
        let order = Order {
            command: vec!["true".to_owned()],
            environment: Vec::new(),
            working_folder: None,
            hostname: "host".to_owned(),
            mounts: Vec::new(),
            log_limit: 1 << 20,
            control_groups: Vec::new(),
            open_files: None,
        };
        assert!(prepare(&folder, &order, 1).is_err());
        assert_eq!(folder.started(), None);
        std::fs::remove_dir_all(path).unwrap();
    }
}
