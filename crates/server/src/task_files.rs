//! The store of files, how nodes get files from it, and what is deleted from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use archive::{Archive, FileStore, Location};
use executor::{ADDRESS_FILE, FetchFrom, Fetching, FileSource, HelperProgram, MAX_COMPRESSION};

use crate::app::AppState;
use crate::args::Args;
use crate::backend::Backend;
use crate::limits::{MAX_FILE_ENTRIES, MAX_UPLOAD_BYTES};

/// How often files that nobody uses are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// The pause before the address of the server is written again.
const ADDRESS_PAUSE: Duration = Duration::from_secs(10);

/// How long to wait for the tasks, without which nobody knows what is in use.
const PRUNE_PAUSE: Duration = Duration::from_secs(60);

/// The files of users, and how they come to the nodes of tasks.
pub(crate) struct TaskFiles {
    pub store: FileStore,
    /// The most bytes that the files of a task may have, compressed, if nodes cannot fetch more.
    pub max_packed_bytes: Option<u64>,
    max_object_bytes: u64,
    fetching: Fetching,
}

/// Opens the store of files: in the archive, if there is one, or else in the state directory. On a cluster without an
/// archive, files are needed only until a task is submitted, and the CLI uploads them again if they are gone.
pub(crate) fn open(args: &Args, backend: &Backend, archive: Option<&Archive>) -> anyhow::Result<TaskFiles> {
    let fetching = fetching(args, backend, archive.is_some())?;
    let (max_object_bytes, max_user_bytes) = (args.max_task_files << 20, args.max_user_files << 20);
    let max_packed_bytes = matches!(fetching, Fetching::Missing(_)).then_some(max_object_bytes);
    let limits = files::Limits {
        max_entries: MAX_FILE_ENTRIES,
        max_total_bytes: max_packed_bytes.map_or(max_user_bytes, |bytes| bytes * MAX_COMPRESSION),
        max_manifest_bytes: MAX_UPLOAD_BYTES,
    };
    let store = match (archive, backend.state_dir()) {
        (Some(archive), _) => FileStore::in_archive(archive, limits, max_user_bytes),
        (None, Some(state)) => FileStore::open(&Location::folder(state.join("files")), limits, max_user_bytes)?,
        (None, None) => temporary(limits, max_user_bytes)?,
    };
    Ok(TaskFiles {
        store: store.with_max_bytes(args.max_files << 20),
        max_packed_bytes,
        max_object_bytes,
        fetching,
    })
}

/// A store that lives as long as this process. A container may have no directory that it can write to.
fn temporary(limits: files::Limits, max_user_bytes: u64) -> Result<FileStore, archive::Error> {
    FileStore::temporary(limits, max_user_bytes).or_else(|error| {
        tracing::warn!(%error, "user files are kept in memory, which has little room; set `TMPDIR` or use `--archive`");
        FileStore::in_memory(limits)
    })
}

/// Whether and how nodes fetch files from this server.
fn fetching(args: &Args, backend: &Backend, is_archived: bool) -> anyhow::Result<Fetching> {
    if let Some(state) = backend.state_dir() {
        if args.helper_image.is_some() || args.advertise_url.is_some() {
            bail!(
                "`--helper-image` and `--advertise-url` apply only when tasks run on a cluster; on this machine, they \
                 fetch files without them"
            )
        }
        return Ok(Fetching::From(FetchFrom::ThisMachine {
            program: own_program()?,
            address_dir: address_dir(state.to_owned()),
        }));
    }
    if let (Some(image), Some(advertised), true) = (&args.helper_image, &args.advertise_url, is_archived) {
        return Ok(Fetching::From(FetchFrom::Cluster {
            url: advertised.url.clone(),
            image: image.clone(),
        }));
    }
    let settings = [
        ("--helper-image", args.helper_image.is_some()),
        ("--advertise-url", args.advertise_url.is_some()),
        // Retries fetch the files again, perhaps from another server, and after a restart of this one.
        ("--archive", is_archived),
    ];
    let missing = settings.into_iter().filter(|(_, is_set)| !is_set);
    Ok(Fetching::Missing(missing.map(|(name, _)| name).collect()))
}

/// The program with which nodes copy from buckets. Unlike files of this server, these need no way to it.
pub(crate) fn helper(args: &Args, backend: &Backend) -> anyhow::Result<Option<HelperProgram>> {
    match backend.state_dir() {
        Some(_) => own_program().map(HelperProgram::Executable).map(Some),
        None => Ok(args.helper_image.clone().map(HelperProgram::Image)),
    }
}

/// The executable of this process, which is also the program that fetches files.
fn own_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the executable of this process")?;
    // The mark that Linux gives to an executable that was replaced by a newer one.
    let path = program.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(path.map_or(program.clone(), PathBuf::from))
}

fn address_dir(state: PathBuf) -> PathBuf {
    state.join("server")
}

impl TaskFiles {
    /// The source of files for tasks.
    pub(crate) fn source(&self) -> FileSource {
        FileSource::new(self.store.clone(), self.max_object_bytes, self.fetching.clone())
    }

    /// Lets tasks on this machine know where this server listens. The port may be another one than before. A server must
    /// start on a full disk, too: it tries again then until there is room.
    pub(crate) fn announce_address(&self, listening: SocketAddr) {
        let Fetching::From(FetchFrom::ThisMachine { address_dir, .. }) = &self.fetching else {
            return;
        };
        let (dir, url) = (address_dir.clone(), format!("http://{}\n", reachable(listening)));
        let Err(error) = write_address(&dir, &url) else {
            return;
        };
        tracing::warn!(%error, path = %dir.display(), "tasks cannot fetch files: their server's address cannot be written; retrying");
        tokio::spawn(async move {
            while write_address(&dir, &url).is_err() {
                tokio::time::sleep(ADDRESS_PAUSE).await;
            }
        });
    }
}

fn write_address(dir: &Path, url: &str) -> std::io::Result<()> {
    let path = dir.join(ADDRESS_FILE);
    if std::fs::read_to_string(&path).is_ok_and(|known| known == url) {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    std::fs::write(&new, url)?;
    std::fs::rename(&new, &path)
}

/// An address at which this machine reaches a server that listens on this one.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// Deletes files that nobody uses, until the runtime stops. A server that was away for days first learns which tasks there
/// are.
pub(crate) async fn prune(app: AppState) {
    loop {
        let pause = match app.executor.files_in_use() {
            Ok(in_use) => {
                match app.files.prune(jiff::Timestamp::now(), &in_use).await {
                    Ok(0) => {}
                    Ok(count) => tracing::info!(event = "files_pruned", count, "unused files deleted"),
                    Err(error) => tracing::warn!(%error, "cannot delete unused files"),
                }
                PRUNE_INTERVAL
            }
            Err(error) => {
                tracing::debug!(%error, "unused files are not deleted while tasks are unknown");
                PRUNE_PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_server_on_all_addresses_is_reached_at_loopback() {
        for (listening, url) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("10.0.0.5:80", "10.0.0.5:80"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), url);
        }
    }
}
