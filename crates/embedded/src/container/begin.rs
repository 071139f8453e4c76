//! The launcher: sets a container up, then becomes the user's command.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::setsid;

use super::folder::Folder;
use super::inherited;
use super::order::Order;
use crate::files::named;

/// Argument that makes the program the launcher of the container in the directory that follows.
pub(super) const BEGIN: &str = "__container-begin";

/// Tells the launcher which isolation the supervisor could set up. Removed from the environment of the user's command.
pub(super) const ISOLATION: &str = "__CONTAINER_ISOLATION";

/// How a container is isolated from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Namespaces: the container sees only its own processes and mounts.
    Namespaces,
    /// Nothing but a process group.
    None,
}

impl Isolation {
    pub fn word(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::None => "none",
        }
    }
}

/// Makes the next child the first process of a PID namespace, if the system allows that. If not, orphaned descendants
/// become children of this process.
#[cfg(target_os = "linux")]
pub(super) fn separate() -> Isolation {
    match super::root::separate() {
        Ok(()) => Isolation::Namespaces,
        Err(_) => {
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
            Isolation::None
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn separate() -> Isolation {
    Isolation::None
}

/// Becomes the user's command. Returns only if that fails.
pub(super) fn run(folder: &Folder) -> ExitCode {
    let error = match attempt(folder) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Opened before the root changed: its path may not exist in the new root.
    if let Some(mut file) = error.file {
        let _ = io::Write::write_all(&mut file, error.text.as_bytes());
    }
    ExitCode::from(128)
}

struct Failure {
    text: String,
    file: Option<fs::File>,
}

enum Never {}

fn attempt(folder: &Folder) -> Result<Never, Failure> {
    let file = fs::File::create(folder.error()).ok();
    let fail = |text: String, file: Option<fs::File>| Failure { text, file };
    let Some(order) = folder.order() else {
        return Err(fail("cannot read the container's `order.json`".to_owned(), file));
    };
    let separated = std::env::var_os(ISOLATION).is_some_and(|word| word == Isolation::Namespaces.word());
    if let Err(error) = enter(folder, &order, separated) {
        return Err(fail(error.to_string(), file));
    }
    let Some((program, arguments)) = order.command.split_first() else {
        return Err(fail("no command specified".to_owned(), file));
    };
    let error = Command::new(program).args(arguments).env_remove(ISOLATION).exec();
    let why = match error.kind() {
        io::ErrorKind::NotFound => "executable file not found in $PATH".to_owned(),
        _ => error.to_string(),
    };
    Err(fail(format!("exec: \"{program}\": {why}"), file))
}

/// Sets everything up except for the command itself.
fn enter(folder: &Folder, order: &Order, separated: bool) -> io::Result<()> {
    inherited::leave(order.open_files).map_err(|error| named(error, "cannot reset what the server passes on"))?;
    for group in &order.control_groups {
        fs::write(group.join("cgroup.procs"), "0")
            .map_err(|error| named(error, &format!("cannot join the control group `{}`", group.display())))?;
    }
    let _ = setsid();
    let default = if separated {
        build_root(folder, order)?
    } else if let Some(mount) = order.mounts.first() {
        return Err(io::Error::other(format!(
            "cannot mount `{}`: unprivileged user namespaces are disabled; enable them, or remove `volumes` from the task",
            mount.target.display()
        )));
    } else {
        folder.work()
    };
    let place = order.working_folder.as_ref().map_or(default, Into::into);
    if order.working_folder.is_some() {
        // Container runtimes create it, too.
        let _ = fs::create_dir_all(&place);
    }
    std::env::set_current_dir(&place).map_err(|error| named(error, &format!("cannot change to `{}`", place.display())))
}

#[cfg(target_os = "linux")]
fn build_root(folder: &Folder, order: &Order) -> io::Result<std::path::PathBuf> {
    super::root::build(folder, order)?;
    Ok(super::root::WORK.into())
}

#[cfg(not(target_os = "linux"))]
fn build_root(folder: &Folder, _: &Order) -> io::Result<std::path::PathBuf> {
    Ok(folder.work())
}

/// Kills all descendants. This process is their subreaper, so they become its children however often they have forked.
#[cfg(target_os = "linux")]
pub(super) fn end_descendants() {
    use rustix::process::{Signal, WaitOptions, kill_process, wait};
    loop {
        let children = super::family::children();
        if children.is_empty() {
            return;
        }
        for child in &children {
            let _ = kill_process(*child, Signal::KILL);
        }
        // The children of those that end become ours, and the next round kills them.
        for _ in &children {
            if wait(WaitOptions::empty()).is_err() {
                return;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn end_descendants() {}
