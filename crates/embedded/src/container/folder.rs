//! The folder of one container: everything about it that must survive the server.

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

/// How long the number of a process can be.
const MAX_NUMBER: u64 = 10;

/// What becomes the outcome: room that the command cannot take.
const OUTCOME_ROOM: &str = "outcome.json.new";
const ROOM_BYTES: usize = 4096;

/// How large a file may be that is read as a whole: they are within the reach of the command. An order has all variables in it.
const MAX_JSON: u64 = 16 << 20;

/// The folder of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// That a container was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The supervisor's process.
    pub supervisor: i32,
    /// The container's first process; `None` as long as it is being made.
    pub process: Option<i32>,
    /// When.
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
    /// The folder at a path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the log is kept.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The container's own working folder.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The container's own `/tmp`.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// Where the root of the container is put together.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// Where the volumes are that belong to the pod.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// The container's last words: `/dev/termination-log`.
    #[must_use]
    pub fn last_words(&self) -> PathBuf {
        self.0.join("termination-log")
    }

    /// Why it could not begin.
    #[must_use]
    pub fn error(&self) -> PathBuf {
        self.0.join("error")
    }

    /// Makes what a container needs.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn prepare(&self) -> io::Result<()> {
        for folder in [self.log(), self.work(), self.temporary(), self.root(), self.volumes()] {
            fs::create_dir_all(folder)?;
        }
        File::create(self.last_words())?;
        open_to_all(&self.temporary())
    }

    /// What was ordered.
    #[must_use]
    pub fn order(&self) -> Option<Order> {
        read_json(&self.0.join(ORDER))
    }

    /// Writes the order.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn write_order(&self, order: &Order) -> io::Result<()> {
        self.write_json(ORDER, order, Lasting::No)
    }

    /// That it was started. A file that cannot be read says that, too: a command is not run a second time because of a bad disk.
    #[must_use]
    pub fn started(&self) -> Option<Started> {
        let path = self.0.join(STARTED);
        match path.try_exists() {
            Ok(false) => None,
            _ => Some(read_json(&path).unwrap_or_else(Started::unreadable)),
        }
    }

    /// The supervisor's process, if it has one that is alive. It is told twice, since the command can spoil each of the files.
    #[must_use]
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

    /// Writes that it was started, and returns when a power cut cannot undo that. The command must not run before. The room for
    /// its outcome is taken, too: the command may fill the disk.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn begin(&self, started: &Started) -> io::Result<()> {
        private_file()
            .open(self.0.join(OUTCOME_ROOM))?
            .write_all(&[b' '; ROOM_BYTES])?;
        File::open(self.0.join(ORDER))?.sync_all()?;
        self.write_json(STARTED, started, Lasting::Yes)?;
        // The names of the folder and of the folder that it is in.
        let parent = self.0.parent().unwrap_or(Path::new("/"));
        sync_folder(parent)
    }

    /// Writes which process it is. After a power cut there is none.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn write_started(&self, started: &Started) -> io::Result<()> {
        self.write_json(STARTED, started, Lasting::No)
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        read_json(&self.0.join(OUTCOME))
    }

    /// Writes how it ended, and returns when a power cut cannot undo that.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn write_outcome(&self, outcome: &Outcome) -> io::Result<()> {
        self.write_json(OUTCOME, outcome, Lasting::Yes)
    }

    fn lock_file(&self) -> io::Result<File> {
        private_file().open(self.0.join(LOCK))
    }

    /// Becomes its supervisor; `None` when it has one.
    ///
    /// # Errors
    /// The folder is gone.
    pub fn take(&self) -> io::Result<Option<File>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Says in the lock whose it is.
    ///
    /// # Errors
    /// The disk is full.
    pub fn sign(lock: &mut File, process: i32) -> io::Result<()> {
        lock.set_len(0)?;
        lock.write_all(process.to_string().as_bytes())
    }

    /// Waits, in this thread, until it has no supervisor.
    ///
    /// # Errors
    /// The folder is gone.
    pub fn wait(&self) -> io::Result<()> {
        self.lock_file()?.lock()
    }

    /// Whether it is known that no more will come of it. A lock that cannot be asked says nothing: there may be too many open files.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let is_unattended = || match self.take() {
            Ok(lock) => lock.is_some(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        self.outcome().is_some() || (self.started().is_some() && is_unattended())
    }

    /// Makes it the folder of a container that was not started yet; its log goes on. First the outcome goes: without it, what was
    /// started has ended with its supervisor.
    ///
    /// # Errors
    /// The folder is gone, or not ours.
    pub fn renew(&self) -> io::Result<()> {
        for name in [OUTCOME, STARTED] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => sync_folder(&self.0)?,
            }
        }
        Ok(())
    }

    /// Gives back what the container alone has used of the disk, when nothing reads it any more.
    pub fn make_room(&self) {
        for doomed in self.of_the_running() {
            let _ = fs::remove_dir_all(doomed);
        }
    }

    /// What only a running container needs.
    #[must_use]
    pub fn of_the_running(&self) -> [PathBuf; 4] {
        [self.work(), self.temporary(), self.volumes(), self.root()]
    }

    fn write_json(&self, name: &str, value: &impl Serialize, lasting: Lasting) -> io::Result<()> {
        let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        files::replace(&self.0.join(name), &bytes, lasting)
    }
}

/// Reads a file; `None` when there is none that can be read.
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

    /// As when too many files are open: what runs would be taken for something to be removed.
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
        assert_eq!(folder.supervisor(), None, "nobody has signed");
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
