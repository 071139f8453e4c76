//! Where folders go that are no longer needed: out of the way at once, and off the disk when there is time.
//!
//! A folder with hundreds of thousands of files takes minutes to remove, and nobody waits for that: neither the pod whose end
//! is to be told, nor the server that stops. What is left over at a stop is removed after the next start.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

use crate::files::make_private;

pub(super) struct Trash {
    folder: PathBuf,
    /// Tells the thread what to remove, and whom to tell when that is gone.
    removals: Sender<(PathBuf, Option<oneshot::Sender<()>>)>,
}

/// What has become of a folder that was taken away.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is out of the way, and goes even if the machine stops now.
    Gone,
    /// It is removed where it is: this tells when it is gone, or is dropped when it cannot be removed.
    InPlace(oneshot::Receiver<()>),
}

impl Trash {
    /// The trash of a state folder; what is in it is removed.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("trash");
        make_private(&folder)?;
        let (removals, receiver) = channel::<(PathBuf, Option<oneshot::Sender<()>>)>();
        // A thread of its own: it ends with the process, in the middle of a removal if need be.
        std::thread::Builder::new()
            .name("trash".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || {
                for (path, done) in receiver {
                    if remove(&path)
                        && let Some(done) = done
                    {
                        // Who asked may have gone.
                        let _ = done.send(());
                    }
                }
            })?;
        for entry in fs::read_dir(&folder)?.flatten() {
            let _ = removals.send((entry.path(), None));
        }
        Ok(Self { folder, removals })
    }

    /// Takes a folder away, if it is there.
    pub fn take(&self, path: &Path) -> Taken {
        let target = self.folder.join(uuid::Uuid::new_v4().simple().to_string());
        // The thread lives as long as this.
        match fs::rename(path, &target) {
            Ok(()) => {
                let _ = self.removals.send((target, None));
                Taken::Gone
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Taken::Gone,
            // It may be on a disk of its own, or the disk may be too full for one more name.
            Err(_) => {
                let (done, receiver) = oneshot::channel();
                let _ = self.removals.send((path.to_owned(), Some(done)));
                Taken::InPlace(receiver)
            }
        }
    }
}

/// Removes a folder; whether it is gone.
fn remove(path: &Path) -> bool {
    match fs::remove_dir_all(path) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(folder = %path.display(), %error, "cannot be removed");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{Taken, Trash};

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("k8s-cli-trash-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn what_cannot_be_moved_is_gone_only_when_it_has_been_removed() {
        let state = scratch("in-place");
        let trash = Trash::open(&state).unwrap();
        let volume = state.join("volume");
        fs::create_dir_all(volume.join("data")).unwrap();
        // No name fits into what is no folder: as on another disk, the move fails.
        fs::remove_dir(state.join("trash")).unwrap();
        fs::write(state.join("trash"), "").unwrap();
        let Taken::InPlace(gone) = trash.take(&volume) else {
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
        // A link to elsewhere is removed, and not what it leads to.
        symlink(&kept, state.join("trash/link")).unwrap();
        let trash = Trash::open(&state).unwrap();
        let last = state.join("last");
        fs::create_dir(&last).unwrap();
        assert!(matches!(trash.take(&last), Taken::Gone));
        while fs::read_dir(state.join("trash")).unwrap().next().is_some() {
            std::thread::yield_now();
        }
        assert_eq!(fs::read_to_string(kept.join("data")).unwrap(), "precious");
        fs::remove_dir_all(state).unwrap();
    }
}
