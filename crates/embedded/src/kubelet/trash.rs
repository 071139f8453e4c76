//! The trash: takes directories out of the way immediately, and deletes them in the background.
//!
//! Deleting a directory with hundreds of thousands of files takes minutes. Neither the report of a pod's end nor the
//! server's shutdown waits for that. What is left at shutdown is deleted after the next start.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

use crate::files::create_private_dir;

pub(super) struct Trash {
    dir: PathBuf,
    /// Passes the thread a path to delete, and whom to notify afterward.
    removals: Sender<(PathBuf, Option<oneshot::Sender<()>>)>,
}

/// What happened to a directory that was moved to the trash.
#[derive(Debug)]
pub(super) enum Removal {
    /// It is out of the way, and will be deleted even if the machine stops now.
    Moved,
    /// It is being deleted where it is. The receiver resolves when it is gone, or fails if it cannot be deleted.
    Deleting(oneshot::Receiver<()>),
}

impl Trash {
    /// Opens the trash of a state directory, and starts deleting its content.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let dir = state.join("trash");
        create_private_dir(&dir)?;
        let (removals, receiver) = channel::<(PathBuf, Option<oneshot::Sender<()>>)>();
        // A thread instead of a blocking task of the runtime: a deletion must not delay shutdown, and can be
        // interrupted.
        std::thread::Builder::new()
            .name("trash".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                for (path, done) in receiver {
                    if delete_dir(&path)
                        && let Some(done) = done
                    {
                        // Nobody may be waiting any longer.
                        let _ = done.send(());
                    }
                }
            })?;
        for entry in fs::read_dir(&dir)?.flatten() {
            let _ = removals.send((entry.path(), None));
        }
        Ok(Self { dir, removals })
    }

    /// Moves a directory to the trash, if it exists.
    pub(crate) fn move_to_trash(&self, path: &Path) -> Removal {
        let target = self.dir.join(uuid::Uuid::new_v4().simple().to_string());
        // Sending cannot fail, because the thread lives as long as this.
        match fs::rename(path, &target) {
            Ok(()) => {
                let _ = self.removals.send((target, None));
                Removal::Moved
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Removal::Moved,
            // It may be a mount point or on another disk, or the disk may be too full for another name.
            Err(_) => {
                let (done, receiver) = oneshot::channel();
                let _ = self.removals.send((path.to_owned(), Some(done)));
                Removal::Deleting(receiver)
            }
        }
    }
}

/// Deletes a directory. Returns whether it is gone.
fn delete_dir(path: &Path) -> bool {
    match fs::remove_dir_all(path) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(folder = %path.display(), %error, "cannot delete a directory");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{Removal, Trash};

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("k8s-cli-trash-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn what_cannot_be_moved_is_gone_only_when_it_has_been_removed() {
        let state = scratch("in-place");
        let trash = Trash::open(&state).unwrap();
        let volume = state.join("volume");
        fs::create_dir_all(volume.join("data")).unwrap();
        // Nothing can be moved into a regular file, so moving fails, as it does across disks.
        fs::remove_dir(state.join("trash")).unwrap();
        fs::write(state.join("trash"), "").unwrap();
        let Removal::Deleting(gone) = trash.move_to_trash(&volume) else {
            panic!("it cannot have been moved")
        };
        gone.await.unwrap();
        assert!(!volume.exists());
        fs::remove_dir_all(state).unwrap();
    }

    #[tokio::test]
    async fn what_was_in_the_way_is_removed_after_the_next_start() {
        let state = scratch("start");
        let kept = state.join("kept");
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("data"), "precious").unwrap();
        fs::create_dir_all(state.join("trash/old/deep")).unwrap();
        // The link is deleted, not its target.
        symlink(&kept, state.join("trash/link")).unwrap();
        let trash = Trash::open(&state).unwrap();
        let last = state.join("last");
        fs::create_dir(&last).unwrap();
        assert!(matches!(trash.move_to_trash(&last), Removal::Moved));
        while fs::read_dir(state.join("trash")).unwrap().next().is_some() {
            std::thread::yield_now();
        }
        assert_eq!(fs::read_to_string(kept.join("data")).unwrap(), "precious");
        fs::remove_dir_all(state).unwrap();
    }
}
