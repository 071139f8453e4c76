//! Runs a command in a running container, for readiness probes.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Enters the namespaces of the process with this PID, and runs the command in the remaining arguments.
pub(super) fn run_exec(process: &OsStr) -> ExitCode {
    match enter_and_run(process) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(126)
        }
    }
}

fn enter_and_run(process: &OsStr) -> std::io::Result<u8> {
    let dir = std::path::Path::new("/proc").join(process);
    let open = |name: &str| File::open(dir.join("ns").join(name));
    let own_user = std::fs::read_link("/proc/self/ns/user").ok();
    let is_same_user = std::fs::read_link(dir.join("ns/user")).ok() == own_user;
    // All are opened before entering any, because `/proc` changes with the mount namespace. The user namespace comes
    // first, because it grants the rights to enter the others.
    let namespaces = [
        (open("user")?, LinkNameSpaceType::User),
        (open("pid")?, LinkNameSpaceType::ProcessID),
        (open("uts")?, LinkNameSpaceType::HostNameAndNISDomainName),
        (open("ipc")?, LinkNameSpaceType::InterProcessCommunication),
        (open("mnt")?, LinkNameSpaceType::Mount),
    ];
    let working_dir = std::fs::read_link(dir.join("cwd")).unwrap_or_else(|_| "/".into());
    for (file, kind) in &namespaces {
        // The kernel refuses to enter the namespace that the process is already in.
        if matches!(kind, LinkNameSpaceType::User) && is_same_user {
            continue;
        }
        move_into_link_name_space(file.as_fd(), Some(*kind))?;
    }
    let mut arguments = std::env::args_os().skip(3);
    let program = arguments.next().unwrap_or_default();
    // Run the command as a child, because only children are in the new PID namespace.
    let status = Command::new(program)
        .args(arguments)
        .current_dir(working_dir)
        .status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(137))
}
