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
use crate::error::{Error, Result};
use crate::folders;
use crate::output::say;

/// Timeout for starting a server, which waits up to 10 s for the cluster and 30 s for its first lists.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Timeout for stopping a server, which gives open requests 10 s to finish.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Polling interval.
const PAUSE: Duration = Duration::from_millis(20);

/// A log larger than this is rotated when a server is started. One old log is kept.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// How much of the end of the log `api logs` reads.
const MAX_TAIL_BYTES: u64 = 4 * 1024 * 1024;

/// The background server, as recorded in `api.json`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Running {
    pub pid: i32,
    /// When the process started, as the system reports it. The PID alone is not enough: it may have been reused since.
    started: String,
    pub url: String,
}

/// Starts a server at the client's URL unless one is already running, and waits until it is ready.
pub async fn start(client: &Client) -> Result<()> {
    if !client.url().is_this_machine() {
        return Err(Error::Usage(format!(
            "`{}` is not on this machine; start the server there",
            client.url()
        )));
    }
    if answers(client).await? {
        return Ok(());
    }
    // If two commands start a server at the same time, the second waits here and then finds the server of the first.
    let _turn = turn()?;
    if answers(client).await? {
        return Ok(());
    }
    let log = log_path()?;
    let (mut child, beginning) = spawn(client, &log)?;
    // Written before the server is ready, so that `api stop` finds it even if this process is killed meanwhile.
    let before = std::fs::read(record_path()?).ok();
    remember(&child, client)?;
    let deadline = Instant::now() + START_PATIENCE;
    // If another program takes the port first, the server exits with an error, which is reported below.
    while !answers(client).await.unwrap_or(false) {
        if let Ok(Some(_)) = child.try_wait() {
            forget(before.as_deref())?;
            // It may have lost the port to another k8s-cli server, which is just as good.
            if answers(client).await? {
                return Ok(());
            }
            return Err(Error::Local(why_it_ended(&log, beginning)));
        }
        if Instant::now() > deadline {
            let pid = child.id();
            return Err(Error::Local(format!(
                "the server (PID {pid}) did not become ready within {START_PATIENCE:?}; see `k8s-cli api logs`"
            )));
        }
        sleep(PAUSE).await;
    }
    say(&format!(
        "started a server (PID {}): {}; stop it with `k8s-cli api stop`",
        child.id(),
        where_tasks_run(client).await
    ));
    Ok(())
}

/// Stops the background server; `None` if none is running.
pub async fn stop() -> Result<Option<Running>> {
    let Some(running) = running()? else {
        return Ok(None);
    };
    let gone = |error: &rustix::io::Errno| *error == rustix::io::Errno::SRCH;
    let pid = Pid::from_raw(running.pid).ok_or_else(|| Error::Local("invalid PID in `api.json`".to_owned()))?;
    match kill_process(pid, Signal::TERM) {
        Err(error) if !gone(&error) => {
            return Err(Error::Local(format!(
                "cannot stop the server (PID {}): {error}",
                running.pid
            )));
        }
        _ => {}
    }
    let deadline = Instant::now() + STOP_PATIENCE;
    while test_kill_process(pid).is_ok() && started_at(running.pid).as_ref() == Some(&running.started) {
        if Instant::now() > deadline {
            return Err(Error::Local(format!(
                "the server (PID {}) did not exit within {STOP_PATIENCE:?}; see `k8s-cli api logs`",
                running.pid
            )));
        }
        sleep(PAUSE).await;
    }
    let _ = std::fs::remove_file(record_path()?);
    Ok(Some(running))
}

/// The background server, if it is still running.
pub fn running() -> Result<Option<Running>> {
    let Ok(text) = std::fs::read(record_path()?) else {
        return Ok(None);
    };
    let record: Option<Running> = serde_json::from_slice(&text).ok();
    Ok(record.filter(|record| started_at(record.pid).as_ref() == Some(&record.started)))
}

/// The log file of the background server.
pub fn log_path() -> Result<PathBuf> {
    Ok(folders::data()?.join("api.log"))
}

/// The last `count` lines of a file, from at most the last [`MAX_TAIL_BYTES`].
pub fn last_lines(path: &Path, count: usize) -> std::io::Result<Vec<String>> {
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
pub async fn where_tasks_run(client: &Client) -> String {
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
pub async fn answers(client: &Client) -> Result<bool> {
    match client.get_bytes("/readyz").await {
        Ok(_) => Ok(true),
        Err(
            error @ (Error::Stranger { .. } | Error::Untrusted { .. } | Error::Outdated { .. } | Error::Refused(_)),
        ) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Takes the lock for starting a server. The system releases it when the file is closed, even if the process is killed.
fn turn() -> Result<File> {
    let path = folders::data()?.join("start.lock");
    let open = || {
        make_folder()?;
        let file = own_file().write(true).open(&path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
        Ok::<File, Error>(file)
    };
    open().map_err(|error| match error {
        Error::Output(source) => Error::File {
            action: "write",
            path,
            source,
        },
        other => other,
    })
}

/// Creates the data directory, with access for the user only: it holds logs and state of tasks.
fn make_folder() -> Result<()> {
    let path = folders::data()?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|source| Error::File {
        action: "create",
        path,
        source,
    })
}

/// Options for a file that only the user may access.
fn own_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    options
}

fn write_record(path: &Path, text: &[u8]) -> std::io::Result<()> {
    own_file().write(true).truncate(true).open(path)?.write_all(text)
}

fn spawn(client: &Client, log: &Path) -> Result<(Child, u64)> {
    let unusable = |source| Error::File {
        action: "write",
        path: log.to_owned(),
        source,
    };
    make_folder()?;
    if std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
        std::fs::rename(log, log.with_extension("log.old")).map_err(unusable)?;
    }
    let file = own_file().append(true).open(log).map_err(unusable)?;
    let beginning = file.metadata().map_err(unusable)?.len();
    let program = std::env::current_exe()
        .map_err(|error| Error::Local(format!("cannot locate the k8s-cli executable: {error}")))?;
    let port = client.url().port().unwrap_or_default().to_string();
    let arguments = ["api", "serve", "--background", "--port", &port];
    let start = |command: &mut Command| -> std::io::Result<Child> {
        let command = command.args(arguments).current_dir("/").envs(absolute_paths());
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file.try_clone()?);
        command.spawn()
    };
    let mut closing = Command::new("bash");
    closing
        .args(["-p", "-c", WITHOUT_THE_STARTERS_FILES, "bash"])
        .arg(&program);
    let started = match start(&mut closing) {
        // A server for a cluster works without bash; it then keeps the inherited file descriptors open.
        Err(error) if error.kind() == ErrorKind::NotFound => start(&mut Command::new(&program)),
        started => started,
    };
    let child = started.map_err(|error| Error::Local(format!("cannot start `{}`: {error}", program.display())))?;
    Ok((child, beginning))
}

/// Closes all inherited file descriptors except standard input, output, and error, then executes the server. Otherwise,
/// a lock of the calling process would stay held, and a reader of its pipe would never see the end, for as long as the
/// server and its tasks run.
const WITHOUT_THE_STARTERS_FILES: &str = r#"for file in /dev/fd/[0-9]*; do
  file=${file##*/}
  case $file in 0 | 1 | 2) ;; *) eval "exec $file>&-" ;; esac
done
exec "$@"
"#;

/// Variables with relative paths, made absolute: the server runs in another working directory (`/`).
fn absolute_paths() -> Vec<(&'static str, OsString)> {
    let here = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let mut variables = Vec::new();
    if let Some(listed) = std::env::var_os("KUBECONFIG") {
        // kubectl ignores empty entries; made absolute, one would name the working directory.
        let paths = std::env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty());
        if let Ok(joined) = std::env::join_paths(paths.map(here)) {
            variables.push(("KUBECONFIG", joined));
        }
    }
    if let Some(folder) = std::env::var_os("K8S_CLI_API_STATE_DIR").filter(|folder| !folder.is_empty()) {
        variables.push(("K8S_CLI_API_STATE_DIR", here(folder.into()).into()));
    }
    variables
}

/// The last error in the log from offset `beginning`, where the log of this server starts.
fn why_it_ended(log: &Path, beginning: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(beginning))?;
        BufReader::new(file).lines().collect::<std::io::Result<Vec<String>>>()
    };
    let lines = read().unwrap_or_default();
    let error = lines.iter().rev().find_map(|line| line.strip_prefix("error: "));
    match error {
        Some(error) => format!("the server failed to start: {error}"),
        None => format!("the server failed to start; see `{}`", log.display()),
    }
}

fn remember(child: &Child, client: &Client) -> Result<()> {
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let record = Running {
        pid,
        started: started_at(pid).unwrap_or_default(),
        url: client.url().to_string(),
    };
    let path = record_path()?;
    let text = serde_json::to_string(&record).map_err(std::io::Error::from)?;
    write_record(&path, text.as_bytes()).map_err(|source| Error::File {
        action: "write",
        path,
        source,
    })
}

/// Restores the previous record.
fn forget(before: Option<&[u8]>) -> Result<()> {
    let path = record_path()?;
    let done = match before {
        Some(record) => write_record(&path, record),
        None => std::fs::remove_file(&path),
    };
    done.map_err(|source| Error::File {
        action: "write",
        path,
        source,
    })
}

/// When a process started: on Linux in clock ticks since boot, elsewhere as printed by `ps`. `None` if it has ended.
fn started_at(pid: i32) -> Option<String> {
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

fn record_path() -> Result<PathBuf> {
    Ok(folders::data()?.join("api.json"))
}

#[cfg(test)]
mod tests {
    use super::started_at;

    #[test]
    fn a_process_is_known_by_when_it_started() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(started_at(own), started_at(own));
        assert!(started_at(own).is_some());
        assert_eq!(started_at(i32::MAX), None);
    }
}
