//! The beginning of a container: what is done between the supervisor and the user's command.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::setsid;

use super::folder::Folder;
use super::inherited;
use super::order::Order;
use crate::files::named;

/// The word that makes the program the beginning of the container in the folder that follows.
pub(super) const BEGIN: &str = "__container-begin";

/// The variable that tells the beginner what the supervisor could do; taken away before the user's command.
pub(super) const ISOLATION: &str = "__CONTAINER_ISOLATION";

/// What sets the container apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Namespaces of its own: it sees its own processes and mounts.
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

/// Lets the next process that is started be the first one of a process namespace, if the system allows it.
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

/// Becomes the user's command; returns only if that cannot be.
pub(super) fn run(folder: &Folder) -> ExitCode {
    let error = match attempt(folder) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // Opened before the root changed, so that there is somewhere to write to.
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
        return Err(fail("the order of the container cannot be read".to_owned(), file));
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

/// Everything but the command itself.
fn enter(folder: &Folder, order: &Order, separated: bool) -> io::Result<()> {
    inherited::leave(order.open_files).map_err(|error| named(error, "cannot leave what the server has"))?;
    for group in &order.control_groups {
        fs::write(group.join("cgroup.procs"), "0")
            .map_err(|error| named(error, &format!("cannot join the control group `{}`", group.display())))?;
    }
    let _ = setsid();
    let default = if separated {
        build_root(folder, order)?
    } else if let Some(mount) = order.mounts.first() {
        return Err(io::Error::other(format!(
            "cannot mount `{}`: this system lets no process of yours have mounts of its own; allow user namespaces, or use no volumes",
            mount.target.display()
        )));
    } else {
        folder.work()
    };
    let place = order.working_folder.as_ref().map_or(default, Into::into);
    if order.working_folder.is_some() {
        // As a container runtime does it.
        let _ = fs::create_dir_all(&place);
    }
    std::env::set_current_dir(&place).map_err(|error| named(error, &format!("cannot enter `{}`", place.display())))
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

/// Ends all processes below this one. They are its children, however often they forked, since it is their reaper.
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
        // Their own children become ours when they are gone.
        for _ in &children {
            if wait(WaitOptions::empty()).is_err() {
                return;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn end_descendants() {}
