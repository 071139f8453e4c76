//! The hash of a folder as it is on a disk, to compare two of them in tests.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::content::split;

/// A hash of the paths, kinds, permissions, bytes, link targets, and times of files, in seconds, of all that is in a
/// folder.
///
/// # Errors
///
/// If anything in the folder cannot be read.
pub fn tree_hash(root: &Path) -> io::Result<String> {
    let mut listing = Vec::new();
    list(root, root, &mut listing)?;
    listing.sort();
    let mut hash = Sha256::new();
    for line in listing {
        hash.update((line.len() as u64).to_be_bytes());
        hash.update(line);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn list(root: &Path, folder: &Path, listing: &mut Vec<Vec<u8>>) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let mut line = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_bytes().to_vec();
        let mut rest = format!("\0{:o}\0", metadata.mode() & 0o777).into_bytes();
        if metadata.is_dir() {
            rest.extend_from_slice(b"directory");
            list(root, &path, listing)?;
        } else if metadata.is_symlink() {
            // The permissions of a link depend on the system.
            rest = b"\0link\0".to_vec();
            rest.extend_from_slice(fs::read_link(&path)?.as_os_str().as_bytes());
        } else if metadata.is_file() {
            rest.extend_from_slice(format!("file\0{}\0", metadata.mtime()).as_bytes());
            split(fs::File::open(&path)?, |content, _| {
                rest.extend_from_slice(content.hash().as_bytes());
            })?;
        } else {
            rest.extend_from_slice(b"special");
        }
        line.extend(rest);
        listing.push(line);
    }
    Ok(())
}
