//! Starts, finds, and stops the background server on this machine.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use task::wire::{BackendKind, ServerVersion};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::dirs;
use crate::error::{Error, FileAction, Result};
use crate::output::print_message;

/// Timeout for starting a server, which waits up to 10 s for the cluster and 30 s for its first lists.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Timeout for stopping a server, which gives open requests 10 s to finish.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A log larger than this is rotated when a server is started. One old log is kept.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// How much of the end of the log `api logs` reads.
const MAX_TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// The background server, as recorded in `api.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub pid: i32,
    /// When the process started, as the system reports it. The PID alone is not enough: it may have been reused since.
    started: String,
    pub url: String,
}

/// Starts a server at the client's URL unless one is already running, and waits until it is ready.
pub(crate) async fn start(client: &Client) -> Result<()> {
    if !client.url().is_this_machine() {
        return Err(Error::Usage(format!(
            "`{}` is not on this machine; start the server there",
            client.url()
        )));
    }
    if is_ready(client).await? {
        return Ok(());
    }
    // If two commands start a server at the same time, the second waits here and then finds the server of the first.
    let _lock = lock_start()?;
    if is_ready(client).await? {
        return Ok(());
    }
    let log = log_path()?;
    let (mut child, log_offset) = spawn(client, &log)?;
    // Written before the server is ready, so that `api stop` finds it even if this process is killed meanwhile.
    let previous = std::fs::read(pid_file_path()?).ok();
    write_pid_file(&child, client)?;
    let deadline = Instant::now() + START_TIMEOUT;
    // If another program takes the port first, the server exits with an error, which is reported below.
    while !is_ready(client).await.unwrap_or(false) {
        if let Ok(Some(_)) = child.try_wait() {
            restore_pid_file(previous.as_deref())?;
            // It may have lost the port to another k8s-cli server, which is just as good.
            if is_ready(client).await? {
                return Ok(());
            }
            return Err(Error::Local(start_failure(&log, log_offset)));
        }
        if Instant::now() > deadline {
            let pid = child.id();
            return Err(Error::Local(format!(
                "the server (PID {pid}) did not become ready within {START_TIMEOUT:?}; see `k8s-cli api logs`"
            )));
        }
        sleep(POLL_INTERVAL).await;
    }
    print_message(&format!(
        "started a server (PID {}): {}; stop it with `k8s-cli api stop`",
        child.id(),
        describe_backend(client).await
    ));
    Ok(())
}

/// Whether a server was ever started on this machine.
pub(crate) fn was_started() -> bool {
    log_path().is_ok_and(|path| path.exists())
}

/// Stops the background server; `None` if none is running.
pub(crate) async fn stop() -> Result<Option<Daemon>> {
    let Some(daemon) = find_running()? else {
        return Ok(None);
    };
    let is_gone = |error: &rustix::io::Errno| *error == rustix::io::Errno::SRCH;
    let pid = Pid::from_raw(daemon.pid).ok_or_else(|| Error::Local("invalid PID in `api.json`".to_owned()))?;
    match kill_process(pid, Signal::TERM) {
        Err(error) if !is_gone(&error) => {
            return Err(Error::Local(format!(
                "cannot stop the server (PID {}): {error}",
                daemon.pid
            )));
        }
        _ => {}
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while test_kill_process(pid).is_ok() && process_start_time(daemon.pid).as_ref() == Some(&daemon.started) {
        if Instant::now() > deadline {
            return Err(Error::Local(format!(
                "the server (PID {}) did not exit within {STOP_TIMEOUT:?}; see `k8s-cli api logs`",
                daemon.pid
            )));
        }
        sleep(POLL_INTERVAL).await;
    }
    let _ = std::fs::remove_file(pid_file_path()?);
    Ok(Some(daemon))
}

/// The background server, if it is still running.
pub(crate) fn find_running() -> Result<Option<Daemon>> {
    let Ok(text) = std::fs::read(pid_file_path()?) else {
        return Ok(None);
    };
    let daemon: Option<Daemon> = serde_json::from_slice(&text).ok();
    Ok(daemon.filter(|daemon| process_start_time(daemon.pid).as_ref() == Some(&daemon.started)))
}

/// The log file of the background server.
pub(crate) fn log_path() -> Result<PathBuf> {
    Ok(dirs::data()?.join("api.log"))
}

/// The last `count` lines of a file, from at most the last [`MAX_TAIL_BYTES`].
pub(crate) fn read_last_lines(path: &Path, count: usize) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect())
}

/// Describes where the tasks of a server run.
pub(crate) async fn describe_backend(client: &Client) -> String {
    match client.get::<ServerVersion>("/version").await {
        Ok(version) if version.backend == BackendKind::Embedded => "tasks run on this machine".to_owned(),
        Ok(version) => format!("tasks run on the cluster, in namespace `{}`", version.namespace),
        Err(_) => "unknown version".to_owned(),
    }
}

/// Whether a k8s-cli server is ready at the client's URL.
///
/// # Errors
/// Another program, an older server, or a server of another account uses the port; starting a server would fail.
pub(crate) async fn is_ready(client: &Client) -> Result<bool> {
    match client.get_bytes("/readyz").await {
        Ok(_) => Ok(true),
        Err(
            error @ (Error::Proxy { .. }
            | Error::WrongServer { .. }
            | Error::Untrusted { .. }
            | Error::OutdatedServer { .. }
            | Error::PermissionDenied(_)),
        ) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Takes the lock for starting a server. The system releases it when the file is closed, even if the process is killed.
fn lock_start() -> Result<File> {
    let path = dirs::data()?.join("start.lock");
    create_data_dir()?;
    let open = || {
        let file = private_file_options().write(true).open(&path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(file)
    };
    open().map_err(Error::file(FileAction::Write, &path))
}

/// Creates the data directory, with access for the user only: it holds logs and state of tasks.
fn create_data_dir() -> Result<()> {
    let path = dirs::data()?;
    let created = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    created.map_err(Error::file(FileAction::Create, &path))
}

/// Options for a file that only the user may access.
fn private_file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

fn write_private_file(path: &Path, text: &[u8]) -> std::io::Result<()> {
    private_file_options()
        .write(true)
        .truncate(true)
        .open(path)?
        .write_all(text)
}

fn spawn(client: &Client, log: &Path) -> Result<(Child, u64)> {
    let write_error = Error::file(FileAction::Write, log);
    create_data_dir()?;
    if std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
        std::fs::rename(log, log.with_extension("log.old")).map_err(&write_error)?;
    }
    let file = private_file_options().append(true).open(log).map_err(&write_error)?;
    let log_offset = file.metadata().map_err(&write_error)?.len();
    let program = std::env::current_exe()
        .map_err(|error| Error::Local(format!("cannot locate the k8s-cli executable: {error}")))?;
    let port = client.url().port().unwrap_or_default().to_string();
    let arguments = ["api", "serve", "--background", "--port", &port];
    let start = |command: &mut Command| -> std::io::Result<Child> {
        let command = command
            .args(arguments)
            .current_dir("/")
            .envs(variables_with_absolute_paths());
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file.try_clone()?);
        command.spawn()
    };
    let mut bash = Command::new("bash");
    bash.args(["-p", "-c", CLOSE_INHERITED_FILES, "bash"]).arg(&program);
    let started = match start(&mut bash) {
        // A server for a cluster works without bash; it then keeps the inherited file descriptors open.
        Err(error) if error.kind() == ErrorKind::NotFound => start(&mut Command::new(&program)),
        started => started,
    };
    let child = started.map_err(|error| Error::Local(format!("cannot start `{}`: {error}", program.display())))?;
    Ok((child, log_offset))
}

/// Closes all inherited file descriptors except standard input, output, and error, then executes the server. Otherwise,
/// a lock of the calling process would stay held, and a reader of its pipe would never see the end, for as long as the
/// server and its tasks run.
const CLOSE_INHERITED_FILES: &str = r#"for file in /dev/fd/[0-9]*; do
  file=${file##*/}
  case $file in 0 | 1 | 2) ;; *) eval "exec $file>&-" ;; esac
done
exec "$@"
"#;

/// Variables with relative paths, made absolute: the server runs in another working directory (`/`).
fn variables_with_absolute_paths() -> Vec<(&'static str, OsString)> {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let mut variables = Vec::new();
    if let Some(listed) = std::env::var_os("KUBECONFIG") {
        // kubectl ignores empty entries; made absolute, one would name the working directory.
        let paths = std::env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty());
        if let Ok(joined) = std::env::join_paths(paths.map(absolute)) {
            variables.push(("KUBECONFIG", joined));
        }
    }
    if let Some(dir) = std::env::var_os("K8S_CLI_API_STATE_DIR").filter(|dir| !dir.is_empty()) {
        variables.push(("K8S_CLI_API_STATE_DIR", absolute(dir.into()).into()));
    }
    variables
}

/// The last error in the log from offset `log_offset`, where the log of this server starts.
fn start_failure(log: &Path, log_offset: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(log_offset))?;
        BufReader::new(file).lines().collect::<std::io::Result<Vec<String>>>()
    };
    let lines = read().unwrap_or_default();
    let error = lines.iter().rev().find_map(|line| line.strip_prefix("error: "));
    match error {
        Some(error) => format!("the server failed to start: {error}"),
        None => format!("the server failed to start; see `{}`", log.display()),
    }
}

fn write_pid_file(child: &Child, client: &Client) -> Result<()> {
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let daemon = Daemon {
        pid,
        started: process_start_time(pid).unwrap_or_default(),
        url: client.url().to_string(),
    };
    let path = pid_file_path()?;
    let text = serde_json::to_string(&daemon).map_err(std::io::Error::from)?;
    write_private_file(&path, text.as_bytes()).map_err(Error::file(FileAction::Write, &path))
}

/// Restores the previous PID file.
fn restore_pid_file(previous: Option<&[u8]>) -> Result<()> {
    let path = pid_file_path()?;
    let restored = match previous {
        Some(contents) => write_private_file(&path, contents),
        None => std::fs::remove_file(&path),
    };
    restored.map_err(Error::file(FileAction::Write, &path))
}

/// When a process started: on Linux in clock ticks since boot, elsewhere as printed by `ps`. `None` if it has ended.
fn process_start_time(pid: i32) -> Option<String> {
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The program name, in parentheses, may contain spaces and parentheses, so count fields after the last `)`: the
        // state is the first and the start time the 20th
        // (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        // A zombie has ended but has not been reaped yet.
        let has_ended = fields.first() == Some(&"Z");
        return fields.get(19).filter(|_| !has_ended).map(|ticks| (*ticks).to_owned());
    }
    if cfg!(target_os = "linux") {
        return None;
    }
    let output = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn pid_file_path() -> Result<PathBuf> {
    Ok(dirs::data()?.join("api.json"))
}

#[cfg(test)]
mod tests {
    use super::process_start_time;

    #[test]
    fn a_process_is_identified_by_when_it_started() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(process_start_time(own), process_start_time(own));
        assert!(process_start_time(own).is_some());
        assert_eq!(process_start_time(i32::MAX), None);
    }
}
