//! The processes below this one, which is their reaper. Linux alone tells of them; elsewhere there are none to be seen.

use rustix::process::Pid;
#[cfg(target_os = "linux")]
use rustix::process::{WaitOptions, getpgid, waitpid};

/// How deep a tree of processes is looked at: one that is deeper is a mistake or an attack.
#[cfg(target_os = "linux")]
const MAX_DEPTH: usize = 64;

/// The children of this process.
#[cfg(target_os = "linux")]
pub(super) fn children() -> Vec<Pid> {
    listed("/proc/thread-self/children")
}

#[cfg(not(target_os = "linux"))]
pub(super) fn children() -> Vec<Pid> {
    Vec::new()
}

/// Takes away the children that have ended, except one whose end is somebody else's business. Those that nobody waits for stay
/// in their process group, and whoever asks whether a group is empty would hear that it is not.
#[cfg(target_os = "linux")]
pub(super) fn reap(except: Option<Pid>) {
    for child in children().into_iter().filter(|child| Some(*child) != except) {
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reap(_except: Option<Pid>) {}

/// All processes below this one that `first` does not reach with a signal to its own process group or to that of a child.
#[cfg(target_os = "linux")]
pub(super) fn strangers(first: Option<Pid>) -> Vec<Pid> {
    let reached: Vec<Pid> = first
        .into_iter()
        .chain(first.into_iter().flat_map(children_of))
        .filter_map(|process| getpgid(Some(process)).ok())
        .collect();
    let mut found = Vec::new();
    let mut level = children();
    for _ in 0..MAX_DEPTH {
        if level.is_empty() {
            break;
        }
        let is_stranger = |process: &Pid| getpgid(Some(*process)).is_ok_and(|group| !reached.contains(&group));
        found.extend(level.iter().copied().filter(is_stranger));
        level = level.into_iter().flat_map(children_of).collect();
    }
    found
}

#[cfg(not(target_os = "linux"))]
pub(super) fn strangers(_first: Option<Pid>) -> Vec<Pid> {
    Vec::new()
}

/// The children of another process, whichever of its threads made them.
#[cfg(target_os = "linux")]
fn children_of(process: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .flat_map(|task| listed(&task.path().join("children").to_string_lossy()))
        .collect()
}

#[cfg(target_os = "linux")]
fn listed(path: &str) -> Vec<Pid> {
    let numbers = std::fs::read_to_string(path).unwrap_or_default();
    numbers
        .split_whitespace()
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
}
