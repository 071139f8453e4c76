//! The supervisor: it starts the container, keeps its log, passes signals on, and writes how it ended.

use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process, setsid};
use signal_hook::consts::{SIGCHLD, SIGTERM, SIGUSR1};

use super::folder::{Folder, Started};
use super::order::{Order, Outcome};
use super::record::{Recorder, Stream};
use super::{BEGIN, begin};

/// How much is read at once.
const READ: usize = 64 * 1024;

/// How long output is waited for after the container ended: somebody outside of it may hold its pipe.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs the container of a folder, if nobody does or did.
pub(super) fn run(folder: &Folder) -> ExitCode {
    // Its own session: a Ctrl-C at the server's terminal is not meant for it.
    let _ = setsid();
    let lock = match folder.take() {
        Ok(Some(lock)) => lock,
        Ok(None) | Err(_) => return ExitCode::FAILURE,
    };
    if folder.started().is_some() {
        return ExitCode::FAILURE;
    }
    let Some(order) = folder.order() else {
        return ExitCode::FAILURE;
    };
    let outcome = supervise(folder, &order).unwrap_or_else(|error| Outcome {
        code: 128,
        error: Some(error.to_string()),
        at: Timestamp::now(),
        ..Outcome::default()
    });
    let written = folder.write_outcome(&outcome);
    drop(lock);
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn supervise(folder: &Folder, order: &Order) -> io::Result<Outcome> {
    let mut started = Started {
        supervisor: i32::try_from(std::process::id()).unwrap_or(0),
        process: None,
        at: Timestamp::now(),
    };
    // Before the command: it is never run twice, even if this process is killed in between.
    folder.write_started(&started)?;
    let signals = Signals::listen()?;
    let isolation = begin::separate();
    let recorder = Recorder::open(&folder.log(), order.log_limit)?;
    let (output, output_end) = io::pipe()?;
    let (errors, errors_end) = io::pipe()?;
    let child = Command::new(std::env::current_exe()?)
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
    folder.write_started(&started)?;
    announce();
    let mut supervisor = Supervisor {
        child,
        recorder,
        pipes: [
            Some((output, Stream::new("stdout"))),
            Some((errors, Stream::new("stderr"))),
        ],
        signals,
        ended: None,
    };
    let status = supervisor.attend()?;
    let error = std::fs::read_to_string(folder.error())
        .ok()
        .filter(|text| !text.is_empty());
    Ok(Outcome {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        signal: status.signal(),
        out_of_memory: out_of_memory(order),
        error,
        at: Timestamp::now(),
    })
}

/// Tells the server, if it is still there, that the container runs.
fn announce() {
    use std::io::Write;
    let _ = io::stdout().write_all(b"started\n");
    let _ = io::stdout().flush();
    // The server may have gone; nothing is told to it from here on.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}

/// The signals that matter, as bytes in sockets that can be waited for.
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

struct Supervisor {
    child: Child,
    recorder: Recorder,
    pipes: [Option<(PipeReader, Stream)>; 2],
    signals: Signals,
    ended: Option<(ExitStatus, Instant)>,
}

impl Supervisor {
    /// Until the container has ended and all it wrote is kept.
    fn attend(&mut self) -> io::Result<ExitStatus> {
        let mut buffer = vec![0; READ];
        loop {
            if let Some((status, at)) = self.ended
                && (self.pipes.iter().all(Option::is_none) || at.elapsed() > DRAIN)
            {
                for (_, stream) in self.pipes.iter_mut().flatten() {
                    self.recorder.finish(stream);
                }
                return Ok(status);
            }
            let ready = self.wait()?;
            for (index, is_ready) in ready.into_iter().enumerate() {
                if is_ready {
                    self.read(index, &mut buffer)?;
                }
            }
            self.heed()?;
        }
    }

    /// Waits until there is something to do; which pipes have something to be read.
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
        let limit = self.ended.map(|_| Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        });
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
                self.recorder.finish(stream);
                self.pipes[index] = None;
            }
            Ok(count) => self.recorder.take(stream, &buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Does what the signals ask for.
    fn heed(&mut self) -> io::Result<()> {
        if came(&mut self.signals.terminate) {
            self.signal(Signal::TERM);
        }
        if came(&mut self.signals.kill) {
            self.signal(Signal::KILL);
        }
        if came(&mut self.signals.child)
            && self.ended.is_none()
            && let Some(status) = self.child.try_wait()?
        {
            self.ended = Some((status, Instant::now()));
        }
        if self.ended.is_some() {
            // In a process namespace there is nobody left; without one there may be.
            begin::end_descendants();
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // As long as it was not waited for, the number is its own.
        if let (Some(pid), None) = (pid, self.ended) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Whether the kernel ended a process of the container for its memory.
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
