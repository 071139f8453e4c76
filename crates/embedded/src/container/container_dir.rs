//! The directory of a container, with everything about it that must survive the server.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::spec::{ContainerOutcome, ContainerSpec};
use crate::files::{self, Fsync, private_file_options, sync_dir};

const SPEC_FILE: &str = "order.json";
const STARTED_FILE: &str = "started.json";
const OUTCOME_FILE: &str = "outcome.json";
const LOCK_FILE: &str = "lock";

/// Maximum length of a PID, in digits.
const MAX_PID_DIGITS: u64 = 10;

/// Becomes the outcome. It reserves space that the command cannot take, even if it fills the disk.
const RESERVED_OUTCOME_FILE: &str = "outcome.json.new";
const RESERVED_OUTCOME_BYTES: usize = 4096;

/// Size limit for files that are read as a whole, because the command can tamper with them. A spec includes all
/// variables.
const MAX_JSON: u64 = 16 << 20;

/// The directory of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerDir(PathBuf);

/// Records that a container was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// PID of the shim.
    #[serde(rename = "supervisor")]
    pub shim: i32,
    /// PID of the container's first process, or `None` while that is being created.
    pub process: Option<i32>,
    pub at: Timestamp,
}

impl Started {
    fn unreadable() -> Self {
        Self {
            shim: 0,
            process: None,
            at: Timestamp::now(),
        }
    }
}

impl ContainerDir {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The default working directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The container's `/tmp`.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// Where the container's root is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// The volumes that belong to the pod.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// The termination log, `/dev/termination-log` in the container.
    pub(crate) fn termination_log(&self) -> PathBuf {
        self.0.join("termination-log")
    }

    /// The container's `/etc/hosts`.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// Why the container could not start.
    pub(crate) fn error(&self) -> PathBuf {
        self.0.join("error")
    }

    /// Creates the files and directories that a container needs.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        // The state directory may be gone. It must not be created again: another server may have it under a new path.
        match fs::create_dir(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for dir in [self.log(), self.work(), self.temporary(), self.root(), self.volumes()] {
            fs::create_dir_all(dir)?;
        }
        File::create(self.termination_log())?;
        make_world_writable(&self.temporary())
    }

    pub(crate) fn spec(&self) -> Option<ContainerSpec> {
        read_json(&self.0.join(SPEC_FILE))
    }

    pub(crate) fn write_spec(&self, spec: &ContainerSpec) -> io::Result<()> {
        self.write_json(SPEC_FILE, spec, Fsync::No)
    }

    /// Returns the record of the start. An unreadable record counts, too: a bad disk must not make a command run again.
    pub(crate) fn started(&self) -> Option<Started> {
        let path = self.0.join(STARTED_FILE);
        match path.try_exists() {
            Ok(false) => None,
            _ => Some(read_json(&path).unwrap_or_else(Started::unreadable)),
        }
    }

    /// Returns the PID of the shim, if it is alive. The record and the lock both contain it, because the command
    /// can tamper with either of them.
    pub(crate) fn shim_pid(&self) -> Option<i32> {
        let recorded = self.started()?.shim;
        if !matches!(self.try_lock(), Ok(None)) {
            return None;
        }
        Some(recorded).filter(|pid| *pid > 0).or_else(|| {
            let text = files::read_at_most(&self.0.join(LOCK_FILE), MAX_PID_DIGITS).ok()?;
            std::str::from_utf8(&text).ok()?.parse().ok().filter(|pid| *pid > 0)
        })
    }

    /// Records the start, and makes that durable. The command must not run before this returns. Also reserves space for
    /// the outcome, because the command may fill the disk.
    pub(crate) fn record_start(&self, started: &Started) -> io::Result<()> {
        private_file_options()
            .open(self.0.join(RESERVED_OUTCOME_FILE))?
            .write_all(&[b' '; RESERVED_OUTCOME_BYTES])?;
        File::open(self.0.join(SPEC_FILE))?.sync_all()?;
        self.write_json(STARTED_FILE, started, Fsync::Yes)?;
        // Sync the name of this directory in its parent, too.
        let parent = self.0.parent().unwrap_or(Path::new("/"));
        sync_dir(parent)
    }

    /// Records the PID of the first process. This need not be durable: a power cut ends the process.
    pub(crate) fn write_started(&self, started: &Started) -> io::Result<()> {
        self.write_json(STARTED_FILE, started, Fsync::No)
    }

    pub(crate) fn outcome(&self) -> Option<ContainerOutcome> {
        read_json(&self.0.join(OUTCOME_FILE))
    }

    /// Records how the container ended, and makes that durable.
    pub(crate) fn write_outcome(&self, outcome: &ContainerOutcome) -> io::Result<()> {
        self.write_json(OUTCOME_FILE, outcome, Fsync::Yes)
    }

    fn lock_file(&self) -> io::Result<File> {
        private_file_options().open(self.0.join(LOCK_FILE))
    }

    /// Takes the lock as the shim. Returns `None` if there is already one.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes the shim's PID into the lock.
    pub(crate) fn write_shim_pid(lock: &mut File, process: i32) -> io::Result<()> {
        lock.set_len(0)?;
        lock.write_all(process.to_string().as_bytes())
    }

    /// Blocks the thread until there is no shim.
    pub(crate) fn wait_for_shim(&self) -> io::Result<()> {
        self.lock_file()?.lock()
    }

    /// Whether the container is known to have ended. Failing to check the lock proves nothing: too many files may be
    /// open.
    pub(crate) fn has_ended(&self) -> bool {
        let is_unattended = || match self.try_lock() {
            Ok(lock) => lock.is_some(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        self.outcome().is_some() || (self.started().is_some() && is_unattended())
    }

    /// Prepares the directory for the next run of the container. The log continues. The outcome is removed
    /// before the record of the start: after a crash in between, the container counts as ended with its shim. The
    /// other way around, the old outcome would count for the next run.
    pub(crate) fn reset_for_restart(&self) -> io::Result<()> {
        for name in [OUTCOME_FILE, STARTED_FILE] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => sync_dir(&self.0)?,
            }
        }
        Ok(())
    }

    /// Frees the space that only the container used, once nothing reads it anymore.
    pub(crate) fn free_space(&self) {
        for dir in self.runtime_dirs() {
            let _ = fs::remove_dir_all(dir);
        }
    }

    /// Returns what only a running container needs.
    pub(crate) fn runtime_dirs(&self) -> [PathBuf; 4] {
        [self.work(), self.temporary(), self.volumes(), self.root()]
    }

    fn write_json(&self, name: &str, value: &impl Serialize, fsync: Fsync) -> io::Result<()> {
        let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        files::replace(&self.0.join(name), &bytes, fsync)
    }
}

/// Returns `None` if the file is missing or cannot be parsed.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read_at_most(path, MAX_JSON).ok()?).ok()
}

#[cfg(unix)]
fn make_world_writable(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ContainerDir, Started};

    fn scratch(name: &str) -> ContainerDir {
        let dir = std::env::temp_dir().join(format!("k8s-cli-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        ContainerDir::at(dir)
    }

    fn started(dir: &ContainerDir) {
        let started = Started {
            shim: 17,
            ..Started::unreadable()
        };
        dir.write_started(&started).unwrap();
    }

    /// Too many files may be open. If that counted as an end, the files of a running container would be removed.
    #[test]
    fn a_lock_that_cannot_be_asked_is_no_proof_of_an_end() {
        let dir = scratch("lock");
        started(&dir);
        let lock = dir.path().join("lock");
        fs::create_dir(&lock).unwrap();
        assert!(!dir.has_ended());
        fs::remove_dir(&lock).unwrap();
        assert!(dir.has_ended());
        let held = dir.try_lock().unwrap().unwrap();
        assert!(!dir.has_ended());
        drop(held);
        fs::remove_dir_all(dir.path()).unwrap();
    }

    #[test]
    fn a_supervisor_is_known_although_one_of_its_records_was_spoiled() {
        let dir = scratch("spoiled");
        started(&dir);
        assert_eq!(dir.shim_pid(), None, "nobody holds the lock");
        let mut held = dir.try_lock().unwrap().unwrap();
        assert_eq!(dir.shim_pid(), Some(17));
        fs::write(dir.path().join("started.json"), "").unwrap();
        assert_eq!(dir.shim_pid(), None, "the lock contains no PID");
        ContainerDir::write_shim_pid(&mut held, 18).unwrap();
        assert_eq!(dir.shim_pid(), Some(18));
        fs::remove_dir_all(dir.path()).unwrap();
    }

    #[test]
    fn what_a_command_has_put_in_the_place_of_a_record_is_not_waited_for() {
        let dir = scratch("pipe");
        let path = dir.path().join("outcome.json");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(dir.outcome(), None);
        fs::remove_dir_all(dir.path()).unwrap();
    }
}
