//! A command within a container that runs: what a readiness probe asks for.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Enters the namespaces of the process with this number and runs the command that follows it in the arguments.
pub(super) fn run(process: &OsStr) -> ExitCode {
    match attempt(process) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(126)
        }
    }
}

fn attempt(process: &OsStr) -> std::io::Result<u8> {
    let folder = std::path::Path::new("/proc").join(process);
    let open = |name: &str| File::open(folder.join("ns").join(name));
    let own_user = std::fs::read_link("/proc/self/ns/user").ok();
    let is_same_user = std::fs::read_link(folder.join("ns/user")).ok() == own_user;
    let spaces = [
        (open("user")?, LinkNameSpaceType::User),
        (open("pid")?, LinkNameSpaceType::ProcessID),
        (open("uts")?, LinkNameSpaceType::HostNameAndNISDomainName),
        (open("ipc")?, LinkNameSpaceType::InterProcessCommunication),
        (open("mnt")?, LinkNameSpaceType::Mount),
    ];
    let place = std::fs::read_link(folder.join("cwd")).unwrap_or_else(|_| "/".into());
    for (file, kind) in &spaces {
        if matches!(kind, LinkNameSpaceType::User) && is_same_user {
            continue;
        }
        move_into_link_name_space(file.as_fd(), Some(*kind))?;
    }
    let mut arguments = std::env::args_os().skip(3);
    let program = arguments.next().unwrap_or_default();
    // A child, because only children are in the namespace of processes.
    let status = Command::new(program).args(arguments).current_dir(place).status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(137))
}
