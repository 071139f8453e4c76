//! The init process of a container: sets a container up, then becomes the user's command.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::setsid;

use super::container_dir::ContainerDir;
use super::inherited;
use super::spec::ContainerSpec;
use crate::files::with_context;

/// Argument that makes the program the init process of the container in the directory that follows.
pub(super) const INIT_ARGUMENT: &str = "__container-begin";

/// Tells the init process which isolation the shim could set up. Removed from the environment of the user's command.
pub(super) const ISOLATION_VARIABLE: &str = "__CONTAINER_ISOLATION";

/// How a container is isolated from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Namespaces: the container sees only its own processes and mounts.
    Namespaces,
    /// Nothing but a process group.
    None,
}

impl Isolation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::None => "none",
        }
    }
}

/// Makes the next child the first process of a PID namespace, if the system allows that. If not, orphaned descendants
/// become children of this process.
#[cfg(target_os = "linux")]
pub(super) fn isolate() -> Isolation {
    match super::rootfs::unshare_pid_namespace() {
        Ok(()) => Isolation::Namespaces,
        Err(_) => {
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
            Isolation::None
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn isolate() -> Isolation {
    Isolation::None
}

/// Becomes the user's command. Returns only if that fails.
pub(super) fn run_init(dir: &ContainerDir) -> ExitCode {
    // Opened before the root changes: its path may not exist in the new root.
    let file = fs::File::create(dir.error());
    let error = exec_command(dir);
    if let Ok(mut file) = file {
        let _ = io::Write::write_all(&mut file, error.as_bytes());
    }
    ExitCode::from(128)
}

/// Becomes the user's command; returns why that failed.
fn exec_command(dir: &ContainerDir) -> String {
    let Some(spec) = dir.spec() else {
        return "cannot read the container's `order.json`".to_owned();
    };
    let has_namespaces =
        std::env::var_os(ISOLATION_VARIABLE).is_some_and(|word| word == Isolation::Namespaces.as_str());
    if let Err(error) = set_up(dir, &spec, has_namespaces) {
        return error.to_string();
    }
    let Some((program, arguments)) = spec.command.split_first() else {
        return "no command specified".to_owned();
    };
    let error = Command::new(program)
        .args(arguments)
        .env_remove(ISOLATION_VARIABLE)
        .exec();
    let why = match error.kind() {
        io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
        _ => error.to_string(),
    };
    format!("exec: \"{program}\": {why}")
}

/// Sets everything up except for the command itself.
fn set_up(dir: &ContainerDir, spec: &ContainerSpec, has_namespaces: bool) -> io::Result<()> {
    inherited::reset_inherited(spec.open_file_limit)
        .map_err(|error| with_context(error, "cannot reset what the server passes on"))?;
    for group in &spec.cgroups {
        fs::write(group.join("cgroup.procs"), "0")
            .map_err(|error| with_context(error, &format!("cannot join the control group `{}`", group.display())))?;
    }
    let _ = setsid();
    let default = if has_namespaces {
        enter_rootfs(dir, spec)?
    } else if let Some(mount) = spec.mounts.first() {
        return Err(io::Error::other(format!(
            "cannot mount `{}`: unprivileged user namespaces are disabled; enable them, or remove `volumes` from the task",
            mount.target.display()
        )));
    } else {
        dir.work()
    };
    let working_dir = spec.working_dir.as_ref().map_or(default, Into::into);
    if spec.working_dir.is_some() {
        // Container runtimes create it, too.
        let _ = fs::create_dir_all(&working_dir);
    }
    std::env::set_current_dir(&working_dir)
        .map_err(|error| with_context(error, &format!("cannot change to `{}`", working_dir.display())))
}

#[cfg(target_os = "linux")]
fn enter_rootfs(dir: &ContainerDir, spec: &ContainerSpec) -> io::Result<std::path::PathBuf> {
    super::rootfs::enter(dir, spec)?;
    Ok(super::rootfs::WORKSPACE.into())
}

#[cfg(not(target_os = "linux"))]
fn enter_rootfs(dir: &ContainerDir, _: &ContainerSpec) -> io::Result<std::path::PathBuf> {
    Ok(dir.work())
}
