//! The folder of one container: everything about it that must survive the server.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::order::{Order, Outcome};

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
        read_json(&self.0.join("order.json"))
    }

    /// Writes the order.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn write_order(&self, order: &Order) -> io::Result<()> {
        self.write_json("order.json", order)
    }

    /// That it was started.
    #[must_use]
    pub fn started(&self) -> Option<Started> {
        read_json(&self.0.join("started.json"))
    }

    /// Writes that it was started.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn write_started(&self, started: &Started) -> io::Result<()> {
        self.write_json("started.json", started)
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        read_json(&self.0.join("outcome.json"))
    }

    /// Writes how it ended.
    ///
    /// # Errors
    /// The disk is full, or not ours.
    pub fn write_outcome(&self, outcome: &Outcome) -> io::Result<()> {
        self.write_json("outcome.json", outcome)
    }

    fn lock_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.0.join("lock"))
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

    /// Waits, in this thread, until it has no supervisor.
    ///
    /// # Errors
    /// The folder is gone.
    pub fn wait(&self) -> io::Result<()> {
        self.lock_file()?.lock()
    }

    /// Removes what only a running container needs.
    pub fn tidy(&self) {
        for folder in [self.work(), self.temporary(), self.volumes(), self.root()] {
            if let Err(error) = fs::remove_dir_all(&folder)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(folder = %folder.display(), %error, "cannot be removed");
            }
        }
    }

    /// Removes all of it.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.0.display(), %error, "cannot be removed");
        }
    }

    /// A reader sees the old file or the new one, and never a half.
    fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        let new = self.0.join(format!("{name}.new"));
        fs::write(&new, bytes)?;
        fs::rename(new, self.0.join(name))
    }
}

/// Reads a file; `None` when there is none that can be read.
#[must_use]
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(unix)]
fn open_to_all(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))
}
