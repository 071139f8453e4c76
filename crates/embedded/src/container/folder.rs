//! The directory of a container, with everything about it that must survive the server.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::order::{Order, Outcome};
use crate::files::{self, Lasting, private_file, sync_folder};

const ORDER: &str = "order.json";
const STARTED: &str = "started.json";
const OUTCOME: &str = "outcome.json";
const LOCK: &str = "lock";

/// Maximum length of a PID, in digits.
const MAX_NUMBER: u64 = 10;

/// Becomes the outcome. It reserves space that the command cannot take, even if it fills the disk.
const OUTCOME_ROOM: &str = "outcome.json.new";
const ROOM_BYTES: usize = 4096;

/// Size limit for files that are read as a whole, because the command can tamper with them. An order includes all
/// variables.
const MAX_JSON: u64 = 16 << 20;

/// The directory of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// Records that a container was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// PID of the supervisor.
    pub supervisor: i32,
    /// PID of the container's first process, or `None` while that is being created.
    pub process: Option<i32>,
    pub at: Timestamp,
}

impl Started {
    fn unreadable() -> Self {
        Self {
            supervisor: 0,
            process: None,
            at: Timestamp::now(),
        }
    }
}

impl Folder {
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The default working directory.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The container's `/tmp`.
    pub fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// Where the container's root is mounted.
    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// The volumes that belong to the pod.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// The termination log, `/dev/termination-log` in the container.
    pub fn last_words(&self) -> PathBuf {
        self.0.join("termination-log")
    }

    /// Why the container could not start.
    pub fn error(&self) -> PathBuf {
        self.0.join("error")
    }

    /// Creates the files and directories that a container needs.
    pub fn prepare(&self) -> io::Result<()> {
        for folder in [self.log(), self.work(), self.temporary(), self.root(), self.volumes()] {
            fs::create_dir_all(folder)?;
        }
        File::create(self.last_words())?;
        open_to_all(&self.temporary())
    }

    pub fn order(&self) -> Option<Order> {
        read_json(&self.0.join(ORDER))
    }

    pub fn write_order(&self, order: &Order) -> io::Result<()> {
        self.write_json(ORDER, order, Lasting::No)
    }

    /// Returns the record of the start. An unreadable record counts, too: a bad disk must not make a command run again.
    pub fn started(&self) -> Option<Started> {
        let path = self.0.join(STARTED);
        match path.try_exists() {
            Ok(false) => None,
            _ => Some(read_json(&path).unwrap_or_else(Started::unreadable)),
        }
    }

    /// Returns the PID of the supervisor, if it is alive. The record and the lock both contain it, because the command
    /// can tamper with either of them.
    pub fn supervisor(&self) -> Option<i32> {
        let told = self.started()?.supervisor;
        if !matches!(self.take(), Ok(None)) {
            return None;
        }
        Some(told).filter(|number| *number > 0).or_else(|| {
            let text = files::read_beginning(&self.0.join(LOCK), MAX_NUMBER).ok()?;
            std::str::from_utf8(&text)
                .ok()?
                .parse()
                .ok()
                .filter(|number| *number > 0)
        })
    }

    /// Records the start, and makes that durable. The command must not run before this returns. Also reserves space for
    /// the outcome, because the command may fill the disk.
    pub fn begin(&self, started: &Started) -> io::Result<()> {
        private_file()
            .open(self.0.join(OUTCOME_ROOM))?
            .write_all(&[b' '; ROOM_BYTES])?;
        File::open(self.0.join(ORDER))?.sync_all()?;
        self.write_json(STARTED, started, Lasting::Yes)?;
        // Sync the name of this directory in its parent, too.
        let parent = self.0.parent().unwrap_or(Path::new("/"));
        sync_folder(parent)
    }

    /// Records the PID of the first process. This need not be durable: a power cut ends the process.
    pub fn write_started(&self, started: &Started) -> io::Result<()> {
        self.write_json(STARTED, started, Lasting::No)
    }

    pub fn outcome(&self) -> Option<Outcome> {
        read_json(&self.0.join(OUTCOME))
    }

    /// Records how the container ended, and makes that durable.
    pub fn write_outcome(&self, outcome: &Outcome) -> io::Result<()> {
        self.write_json(OUTCOME, outcome, Lasting::Yes)
    }

    fn lock_file(&self) -> io::Result<File> {
        private_file().open(self.0.join(LOCK))
    }

    /// Takes the lock as the supervisor. Returns `None` if there is already one.
    pub fn take(&self) -> io::Result<Option<File>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes the supervisor's PID into the lock.
    pub fn sign(lock: &mut File, process: i32) -> io::Result<()> {
        lock.set_len(0)?;
        lock.write_all(process.to_string().as_bytes())
    }

    /// Blocks the thread until there is no supervisor.
    pub fn wait(&self) -> io::Result<()> {
        self.lock_file()?.lock()
    }

    /// Whether the container is known to have ended. Failing to check the lock proves nothing: too many files may be
    /// open.
    pub fn has_ended(&self) -> bool {
        let is_unattended = || match self.take() {
            Ok(lock) => lock.is_some(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        self.outcome().is_some() || (self.started().is_some() && is_unattended())
    }

    /// Prepares the directory for the next run of the container. The log continues. The outcome is removed
    /// before the record of the start: after a crash in between, the container counts as ended with its supervisor. The
    /// other way around, the old outcome would count for the next run.
    pub fn renew(&self) -> io::Result<()> {
        for name in [OUTCOME, STARTED] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => sync_folder(&self.0)?,
            }
        }
        Ok(())
    }

    /// Frees the space that only the container used, once nothing reads it anymore.
    pub fn make_room(&self) {
        for doomed in self.of_the_running() {
            let _ = fs::remove_dir_all(doomed);
        }
    }

    /// Returns what only a running container needs.
    pub fn of_the_running(&self) -> [PathBuf; 4] {
        [self.work(), self.temporary(), self.volumes(), self.root()]
    }

    fn write_json(&self, name: &str, value: &impl Serialize, lasting: Lasting) -> io::Result<()> {
        let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        files::replace(&self.0.join(name), &bytes, lasting)
    }
}

/// Returns `None` if the file is missing or cannot be parsed.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read_beginning(path, MAX_JSON).ok()?).ok()
}

#[cfg(unix)]
fn open_to_all(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Folder, Started};

    fn scratch(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("k8s-cli-folder-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Folder::at(folder)
    }

    fn started(folder: &Folder) {
        let started = Started {
            supervisor: 17,
            ..Started::unreadable()
        };
        folder.write_started(&started).unwrap();
    }

    /// Too many files may be open. If that counted as an end, the files of a running container would be removed.
    #[test]
    fn a_lock_that_cannot_be_asked_is_no_proof_of_an_end() {
        let folder = scratch("lock");
        started(&folder);
        let lock = folder.path().join("lock");
        fs::create_dir(&lock).unwrap();
        assert!(!folder.has_ended());
        fs::remove_dir(&lock).unwrap();
        assert!(folder.has_ended());
        let held = folder.take().unwrap().unwrap();
        assert!(!folder.has_ended());
        drop(held);
        fs::remove_dir_all(folder.path()).unwrap();
    }

    #[test]
    fn a_supervisor_is_known_although_one_of_its_records_was_spoiled() {
        let folder = scratch("spoiled");
        started(&folder);
        assert_eq!(folder.supervisor(), None, "nobody holds the lock");
        let mut held = folder.take().unwrap().unwrap();
        assert_eq!(folder.supervisor(), Some(17));
        fs::write(folder.path().join("started.json"), "").unwrap();
        assert_eq!(folder.supervisor(), None, "the lock contains no PID");
        Folder::sign(&mut held, 18).unwrap();
        assert_eq!(folder.supervisor(), Some(18));
        fs::remove_dir_all(folder.path()).unwrap();
    }

    #[test]
    fn what_a_command_has_put_in_the_place_of_a_record_is_not_waited_for() {
        let folder = scratch("pipe");
        let path = folder.path().join("outcome.json");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(folder.outcome(), None);
        fs::remove_dir_all(folder.path()).unwrap();
    }
}
