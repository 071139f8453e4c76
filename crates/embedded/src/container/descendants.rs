//! The descendants of this process, which is their subreaper. On systems other than Linux, the lists are empty.

use rustix::process::Pid;
#[cfg(target_os = "linux")]
use rustix::process::{Signal, WaitOptions, getpgid, kill_process, wait, waitpid};

/// Maximum depth of a process tree. A deeper one is a bug or an attack.
#[cfg(target_os = "linux")]
const MAX_DEPTH: usize = 64;

#[cfg(target_os = "linux")]
pub(super) fn children() -> Vec<Pid> {
    read_pids("/proc/thread-self/children")
}

#[cfg(not(target_os = "linux"))]
pub(super) fn children() -> Vec<Pid> {
    Vec::new()
}

/// Reaps the children that have ended, except one that somebody else waits for. Zombies stay in their process group, so
/// a check whether the group is empty would fail.
#[cfg(target_os = "linux")]
pub(super) fn reap_exited(except: Option<Pid>) {
    for child in children().into_iter().filter(|child| Some(*child) != except) {
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reap_exited(_except: Option<Pid>) {}

/// Returns all descendants that `init` cannot reach by signaling its own process group and those of its children.
#[cfg(target_os = "linux")]
pub(super) fn list_unreachable(init: Option<Pid>) -> Vec<Pid> {
    let reached: Vec<Pid> = init
        .into_iter()
        .chain(init.into_iter().flat_map(children_of))
        .filter_map(|process| getpgid(Some(process)).ok())
        .collect();
    let mut found = Vec::new();
    let mut level = children();
    for _ in 0..MAX_DEPTH {
        if level.is_empty() {
            break;
        }
        let is_unreachable = |process: &Pid| getpgid(Some(*process)).is_ok_and(|group| !reached.contains(&group));
        found.extend(level.iter().copied().filter(is_unreachable));
        level = level.into_iter().flat_map(children_of).collect();
    }
    found
}

#[cfg(not(target_os = "linux"))]
pub(super) fn list_unreachable(_init: Option<Pid>) -> Vec<Pid> {
    Vec::new()
}

/// Returns the children of another process. Each of its threads lists only the children that it started.
#[cfg(target_os = "linux")]
fn children_of(process: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .flat_map(|task| read_pids(&task.path().join("children").to_string_lossy()))
        .collect()
}

#[cfg(target_os = "linux")]
fn read_pids(path: &str) -> Vec<Pid> {
    let numbers = std::fs::read_to_string(path).unwrap_or_default();
    numbers
        .split_whitespace()
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
}

/// Kills all descendants. This process is their subreaper, so they become its children however often they have forked.
#[cfg(target_os = "linux")]
pub(super) fn kill_all() {
    loop {
        let children = children();
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
pub(super) fn kill_all() {}
