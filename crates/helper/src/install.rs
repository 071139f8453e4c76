//! Copies this program, and the certificates beside it, to a volume that the task's container mounts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::PROGRAM;
use crate::error::Error;

/// The certificates of authorities, in the image as Debian has them, and then beside the program. The image of a task may
/// have none.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
pub(crate) const CERTIFICATES: &str = "ca-certificates.crt";

/// Copies this program to the directory.
pub(crate) fn install(directory: &Path) -> Result<(), Error> {
    let own = std::env::current_exe().map_err(Error::io("find", PROGRAM))?;
    // Renamed into place, so that nobody runs half of it.
    copy(&own, &directory.join(PROGRAM), 0o755)?;
    let certificates = Path::new(SYSTEM_CERTIFICATES);
    if certificates.exists() {
        copy(certificates, &directory.join(CERTIFICATES), 0o644)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Error> {
    let temporary = to.with_extension("new");
    fs::copy(from, &temporary).map_err(Error::io("write", &temporary))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).map_err(Error::io("write", &temporary))?;
    fs::rename(&temporary, to).map_err(Error::io("write", to))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::install;

    #[test]
    fn the_program_is_copied_so_that_everybody_may_run_it() {
        let directory = tempfile::tempdir().unwrap();
        install(directory.path()).unwrap();
        let copy = directory.path().join(crate::PROGRAM);
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(
            std::fs::read(copy).unwrap(),
            std::fs::read(std::env::current_exe().unwrap()).unwrap()
        );
        let error = install(&directory.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}
