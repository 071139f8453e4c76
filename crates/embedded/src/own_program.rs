//! Finds the executable of this process, which is also the shim and the init process of containers.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The executable by what it is rather than by its name.
const SELF: &str = "/proc/self/exe";

/// A path that executes this same program. Somebody may have moved or deleted its file since it was started, or put another
/// version in its place.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if is_this_program(&path) { path } else { SELF.into() })
}

/// Whether the file at this path is the one that runs, as far as the operating system can tell.
fn is_this_program(path: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    match (file(path), file(Path::new(SELF))) {
        (Ok(at_path), Ok(this)) => at_path == this,
        (Ok(_), Err(_)) => true,
        (Err(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_this_program, own_program};

    #[test]
    fn a_program_that_was_moved_or_replaced_is_not_found_by_its_path() {
        let path = std::env::current_exe().unwrap();
        assert!(is_this_program(&path));
        assert_eq!(own_program().unwrap(), path);
        assert!(!is_this_program(Path::new("/bin/sh")));
        assert!(!is_this_program(Path::new("/no/such/program")));
    }
}
