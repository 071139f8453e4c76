//! Builds a container's root: the host's files, with its own volumes, `/tmp`, `/dev`, and processes.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Gid, Uid};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, mount_remount, unmount,
};
use rustix::process::{getgid, getuid, pivot_root, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::container_dir::ContainerDir;
use super::spec::{ContainerSpec, Mount};
use super::unshare::unshare;
use crate::files::with_context;

/// The pod's own directory, as the container sees it.
pub(super) const WORKSPACE: &str = "/workspace";

/// Makes the next child the first process of a PID namespace. Without root, this takes a user namespace, which maps the
/// user to itself.
pub(super) fn unshare_pid_namespace() -> io::Result<()> {
    if getuid().is_root() {
        return Ok(unshare(UnshareFlags::NEWPID)?);
    }
    let (user, group): (Uid, Gid) = (getuid(), getgid());
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWPID)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()))?;
    // The next program must be able to mount, too.
    keep_capabilities(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_CHROOT)
}

/// Keeps capabilities when another program is executed.
fn keep_capabilities(capabilities: CapabilitySet) -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable |= capabilities;
    rustix::thread::set_capabilities(None, sets)?;
    for capability in capabilities.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Builds the new root and enters it.
pub(super) fn enter(dir: &ContainerDir, spec: &ContainerSpec) -> io::Result<()> {
    unshare(UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)?;
    // Mounts made here must not propagate to the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let root = dir.root();
    mount("tmpfs", &root, "tmpfs", MountFlags::NOSUID, Some(c"mode=755"))
        .map_err(|error| with_context(error.into(), "cannot create the container's root"))?;
    bind_entries(Path::new("/"), &root, &["dev", "proc", "tmp", "workspace"])?;
    let pod_mount = |source: PathBuf, target: &str| Mount {
        source,
        target: target.into(),
        read_only: false,
    };
    mount_devices(&root)?;
    let mut mounted = Vec::new();
    mount_volume(
        &root,
        &pod_mount(dir.termination_log(), "/dev/termination-log"),
        &mut mounted,
    )?;
    mount_volume(&root, &pod_mount(dir.hosts(), "/etc/hosts"), &mut mounted)?;
    mount_volume(&root, &pod_mount(dir.temporary(), "/tmp"), &mut mounted)?;
    mount_volume(&root, &pod_mount(dir.work(), WORKSPACE), &mut mounted)?;
    fs::create_dir_all(root.join("proc"))?;
    mount_bind_recursive("/proc", root.join("proc"))?;
    // Mount parents before their children.
    let mut mounts = spec.mounts.clone();
    mounts.sort_by_key(|mount| mount.target.components().count());
    for mount in &mounts {
        mount_volume(&root, mount, &mut mounted)
            .map_err(|error| with_context(error, &format!("cannot mount a volume at `{}`", mount.target.display())))?;
    }
    std::env::set_current_dir(&root)?;
    pivot_root(".", ".")?;
    // `pivot_root(".", ".")` leaves the old root mounted on top of the new one, so detach it:
    // <https://man7.org/linux/man-pages/man2/pivot_root.2.html>.
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    // Not every system allows this. Without it, the host's processes stay visible.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/proc", "proc", flags, None::<&std::ffi::CStr>);
    let _ = rustix::system::sethostname(spec.hostname.as_bytes());
    rustix::thread::clear_ambient_capability_set()?;
    // The container must end with its shim: nobody else would write its log or report its end.
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// Shows the entries of a directory in another one, with exceptions.
fn bind_entries(from: &Path, to: &Path, except: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if except.iter().any(|other| name == **other) {
            continue;
        }
        // Ignore entries that cannot be mounted: only programs that need them are affected.
        let _ = bind_entry(&entry.path(), &to.join(&name));
    }
    Ok(())
}

fn bind_entry(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if kind.is_dir() {
        fs::create_dir_all(to)?;
    } else {
        File::create(to)?;
    }
    Ok(mount_bind_recursive(from, to)?)
}

/// Shows the host's devices, with the container's own shared memory and termination log.
fn mount_devices(root: &Path) -> io::Result<()> {
    let target = root.join("dev");
    fs::create_dir_all(&target)?;
    mount("tmpfs", &target, "tmpfs", MountFlags::NOSUID, Some(c"mode=755"))?;
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        // Skip the host's terminals and disks: they are many, and tasks cannot use them.
        let hidden = ["tty", "vcs", "loop", "ram", "shm", "termination-log"];
        if text != "tty" && hidden.iter().any(|prefix| text.starts_with(prefix)) {
            continue;
        }
        let _ = bind_entry(&entry.path(), &target.join(&name));
    }
    let shared = target.join("shm");
    fs::create_dir_all(&shared)?;
    Ok(mount(
        "tmpfs",
        &shared,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(c"mode=1777"),
    )?)
}

/// Mounts a directory or file below the new root. Creates the target if it doesn't exist.
fn mount_volume(root: &Path, volume: &Mount, mounted: &mut Vec<PathBuf>) -> io::Result<()> {
    let is_dir = fs::metadata(&volume.source)?.is_dir();
    let target = create_mount_point(root, &volume.target, is_dir, mounted)?;
    mount_bind_recursive(&volume.source, &target)?;
    if volume.read_only {
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(&target, flags, c"")?;
    }
    mounted.push(target);
    Ok(())
}

/// Resolves a path below the new root, and creates what is missing. If that changes a directory of the host, the
/// directory is first replaced with one that shows the same entries, so that the host doesn't change. In a volume, the
/// path is created in the volume itself, as container runtimes do.
fn create_mount_point(root: &Path, path: &Path, is_dir: bool, mounted: &[PathBuf]) -> io::Result<PathBuf> {
    let mut current = root.to_owned();
    let steps: Vec<Component<'_>> = path.components().collect();
    for (index, step) in steps.iter().enumerate() {
        let name = match step {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            _ => return Err(io::Error::other("the path must be absolute and must not contain `..`")),
        };
        let next = current.join(name);
        let next = resolve_links(root, &next)?;
        if !next.exists() {
            if !mounted.iter().any(|volume| current.starts_with(volume)) {
                overlay_with_tmpfs(root, &current)?;
            }
            if index + 1 == steps.len() && !is_dir {
                File::create(&next)?;
            } else {
                fs::create_dir(&next)?;
            }
        }
        current = next;
    }
    Ok(current)
}

/// Resolves the symbolic links of a path below the new root.
fn resolve_links(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // Linux follows at most 40 links.
    for _ in 0..40 {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return Ok(path);
        };
        if !metadata.file_type().is_symlink() {
            return Ok(path);
        }
        let to = fs::read_link(&path)?;
        path = match to.strip_prefix("/") {
            Ok(absolute) => root.join(absolute),
            Err(_) => path.parent().unwrap_or(root).join(to),
        };
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Makes it possible to create entries in a directory without changing the host.
fn overlay_with_tmpfs(root: &Path, dir: &Path) -> io::Result<()> {
    let root_device = rustix::fs::stat(root)?.st_dev;
    if rustix::fs::stat(dir)?.st_dev == root_device {
        return Ok(());
    }
    // Mount the original elsewhere, and show its entries in a new directory in its place.
    let aside = root.join(".aside");
    fs::create_dir_all(&aside)?;
    mount_bind_recursive(dir, &aside)?;
    mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID, Some(c"mode=755"))?;
    bind_entries(&aside, dir, &[])?;
    unmount(&aside, UnmountFlags::DETACH)?;
    fs::remove_dir(&aside)
}
