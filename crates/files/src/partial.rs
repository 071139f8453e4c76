//! Files that are not whole: written under another name, so that what is there stays until they are, and continued later.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Mode as FileMode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::content::Content;

/// What the names of files begin with that are not whole. The rest follows from the name and the contents: the next run
/// continues the file, and one with other contents does not.
const PREFIX: &str = ".k8s-cli-fetch-";

/// Makes a file, and fails if there is anything of its name, even a link to nothing.
pub(crate) const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens what is there already. A FIFO in its place is not waited for.
const OLD_FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The first contents of a file that are there, and how many bytes they have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Leading {
    pub count: usize,
    pub bytes: u64,
}

/// What a folder has of a file.
pub(crate) struct Present {
    pub leading: Leading,
    /// The file with them, if there are any.
    file: Option<File>,
    place: Place,
}

/// Where the first contents of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the file, which is as it should be.
    Whole,
    /// In the file, which is another one.
    Old,
    /// In what an earlier run has left.
    Temporary,
}

impl Present {
    /// Reads what is there.
    pub(crate) fn find(folder: BorrowedFd<'_>, name: &[u8], contents: &[Content]) -> io::Result<Self> {
        let mut old = open_to_read(folder, name);
        let mut found = Self {
            leading: Leading::default(),
            file: None,
            place: Place::Old,
        };
        if let Some((file, can_change)) = &mut old {
            let size = file.metadata()?.len();
            found.leading = leading(file, size, contents)?;
            if *can_change && found.leading.count == contents.len() && found.leading.bytes == size {
                found.place = Place::Whole;
            }
        }
        found.file = old.map(|(file, _)| file);
        if found.place == Place::Old
            && let Some(mut file) = open_to_continue(folder, &temporary_name(name, contents))
        {
            let size = file.metadata()?.len();
            let leading = leading(&mut file, size, contents)?;
            if leading.count >= found.leading.count {
                let (file, place) = (Some(file), Place::Temporary);
                found = Self { leading, file, place };
            }
        }
        Ok(found)
    }

    /// Begins to write the file, after the contents that are there.
    pub(crate) fn begin(self, folder: BorrowedFd<'_>, name: &[u8], contents: &[Content]) -> io::Result<Writing> {
        let temporary = temporary_name(name, contents);
        let (file, temporary) = match (self.place, self.file) {
            (Place::Whole, Some(file)) => (file, None),
            (Place::Temporary, Some(file)) => (file, Some(temporary)),
            (_, old) => {
                // Nothing is fetched in vain.
                if let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                    && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                {
                    return Err(Errno::ISDIR.into());
                }
                let mut file = make(folder, &temporary)?;
                if let Some(mut old) = old {
                    old.seek(SeekFrom::Start(0))?;
                    io::copy(&mut old.take(self.leading.bytes), &mut file)?;
                }
                (file, Some(temporary))
            }
        };
        Ok(Writing {
            file,
            leading: self.leading,
            temporary,
        })
    }
}

/// A file that is being written.
pub(crate) struct Writing {
    pub file: File,
    pub leading: Leading,
    /// Its name until it is whole.
    temporary: Option<Vec<u8>>,
}

impl Writing {
    /// A new file that has its name already.
    pub(crate) fn new(file: File) -> Self {
        Self {
            file,
            leading: Leading::default(),
            temporary: None,
        }
    }

    /// Gives the file its name.
    pub(crate) fn finish(self, folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let Some(temporary) = self.temporary else {
            return Ok(());
        };
        if is_at(&self.file, folder, &temporary) {
            return Ok(rustix::fs::renameat(folder, temporary, folder, name)?);
        }
        // Another node that writes the same file to a volume of both was first.
        match is_at(&self.file, folder, name) {
            true => Ok(()),
            false => Err(Errno::NOENT.into()),
        }
    }
}

fn is_at(file: &File, folder: BorrowedFd<'_>, name: &[u8]) -> bool {
    let ours = rustix::fs::fstat(file);
    let there = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    matches!((ours, there), (Ok(ours), Ok(there)) if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino))
}

fn temporary_name(name: &[u8], contents: &[Content]) -> Vec<u8> {
    let mut digest = Sha256::new_with_prefix(name);
    for content in contents {
        digest.update(b"/");
        digest.update(content.hash().to_string());
    }
    format!("{PREFIX}{:.32}", format!("{:x}", digest.finalize())).into_bytes()
}

/// Opens a file that may be as it should be, and says whether its mode and its times can be set.
fn open_to_read(folder: BorrowedFd<'_>, name: &[u8]) -> Option<(File, bool)> {
    let handle = rustix::fs::openat(folder, name, OLD_FILE | OFlags::RDONLY, FileMode::empty()).ok()?;
    let stat = rustix::fs::fstat(&handle).ok()?;
    let user = rustix::process::geteuid();
    let is_ours = stat.st_uid == user.as_raw() || user.is_root();
    // A file that has another name would change there, too.
    let can_change = is_ours && stat.st_nlink == 1;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then(|| (File::from(handle), can_change))
}

/// Opens what an earlier run has left, if it can be continued.
fn open_to_continue(folder: BorrowedFd<'_>, name: &[u8]) -> Option<File> {
    let open = |access| {
        let handle = rustix::fs::openat(folder, name, OLD_FILE | access, FileMode::empty())?;
        let stat = rustix::fs::fstat(&handle)?;
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1;
        if is_ours { Ok(handle) } else { Err(Errno::EXIST) }
    };
    let opened = match open(OFlags::RDWR) {
        // It has its mode already.
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(open(OFlags::RDONLY).ok()?, FileMode::from_raw_mode(0o600)).ok()?;
            open(OFlags::RDWR)
        }
        opened => opened,
    };
    opened.ok().map(File::from)
}

/// Makes a file for a while, or continues that of another node.
fn make(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let mode = FileMode::from_raw_mode(0o600);
    let mut opened = rustix::fs::openat(folder, name, NEW_FILE, mode);
    if matches!(opened, Err(Errno::EXIST)) {
        if let Some(file) = open_to_continue(folder, name) {
            return Ok(file);
        }
        // It is a link, or somebody else's. It goes; what it leads to stays.
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            // Another node has given its file its name.
            Ok(()) | Err(Errno::NOENT) => opened = rustix::fs::openat(folder, name, NEW_FILE, mode),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(File::from(opened?))
}

/// How many of the first contents a file of this size has.
pub(crate) fn leading(file: &mut File, file_size: u64, contents: &[Content]) -> io::Result<Leading> {
    let mut found = Leading::default();
    for content in contents {
        let end = found.bytes + u64::from(content.length());
        if end > file_size || !has(file, content)? {
            break;
        }
        found = Leading {
            count: found.count + 1,
            bytes: end,
        };
    }
    Ok(found)
}

/// Whether a file has this content where it is read.
fn has(file: &mut File, content: &Content) -> io::Result<bool> {
    let mut bytes = vec![0; content.length() as usize];
    file.read_exact(&mut bytes)?;
    Ok(content.is(&bytes))
}
