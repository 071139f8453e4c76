//! Size limit for the logs of all pods together: removes the oldest parts, whichever pod they belong to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::blocking::BlockingPool;
use crate::container::{ContainerDir, list_log_files};
use crate::files::private_file_options;

/// How often to check. In between, the limits of the individual logs bound the growth.
const PRUNE_INTERVAL: Duration = Duration::from_secs(30);

/// Keeps the total size of all logs below `limit` bytes until the engine stops.
pub(super) async fn prune_periodically(
    pods: PathBuf,
    limit: u64,
    blocking_pool: BlockingPool,
    stopping: CancellationToken,
) {
    loop {
        let pods = pods.clone();
        // The next round retries what failed.
        let _ = blocking_pool.run(move || prune(&pods, limit)).await;
        tokio::select! {
            () = sleep(PRUNE_INTERVAL) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// One file of a log.
struct LogFile {
    written: SystemTime,
    size: u64,
    path: PathBuf,
    /// Number of the next file, if this is the newest one.
    next: Option<u64>,
}

fn prune(pods: &Path, limit: u64) {
    let mut files = Vec::new();
    for pod in fs::read_dir(pods).into_iter().flatten().flatten() {
        // The pod may have been removed in the meantime.
        files.extend(log_files_of(&pod.path()).unwrap_or_default());
    }
    let mut total: u64 = files.iter().map(|file| file.size).sum();
    if total <= limit {
        return;
    }
    files.sort_by_key(|file| file.written);
    for file in files.iter().filter(|file| file.size > 0) {
        if total <= limit {
            return;
        }
        if remove_file_of(file).is_ok() {
            total -= file.size;
        }
    }
}

fn log_files_of(pod: &Path) -> io::Result<Vec<LogFile>> {
    let all = list_log_files(&ContainerDir::at(pod.to_owned()).log())?;
    let newest = all.last().map(|(number, _)| *number);
    let mut files = Vec::new();
    for (number, path) in all {
        let metadata = fs::metadata(&path)?;
        files.push(LogFile {
            written: metadata.modified()?,
            size: metadata.len(),
            path,
            next: (newest == Some(number)).then_some(number + 1),
        });
    }
    Ok(files)
}

/// Removes a file of a log, unless it is still being written. A log always keeps one file, whose number tells readers
/// that earlier ones are missing.
fn remove_file_of(file: &LogFile) -> io::Result<()> {
    if let Some(next) = file.next {
        let log = file.path.parent().unwrap_or(Path::new("/"));
        let pod = log.parent().unwrap_or(Path::new("/"));
        if !ContainerDir::at(pod.to_owned()).has_ended() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        // Fails if the file exists: then the container went on to that file and ended after the files were listed.
        private_file_options()
            .create_new(true)
            .open(log.join(format!("{next:08}.log")))?;
    }
    fs::remove_file(&file.path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    use super::prune;

    /// Creates a pod with log files of 1000 bytes each. The higher `age`, the older they are.
    fn pod(pods: &Path, name: &str, age: u64, files: u64, has_ended: bool) -> PathBuf {
        let dir = pods.join(name);
        fs::create_dir_all(dir.join("log")).unwrap();
        for number in 0..files {
            let path = dir.join(format!("log/{number:08}.log"));
            fs::write(&path, [b'x'; 1000]).unwrap();
            let written = SystemTime::now() - Duration::from_secs(1000 * age - number);
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(written)
                .unwrap();
        }
        if has_ended {
            fs::write(
                dir.join("outcome.json"),
                r#"{"code":0,"signal":null,"out_of_memory":false,"error":null,"at":"2026-01-01T00:00:00Z"}"#,
            )
            .unwrap();
        }
        dir.join("log")
    }

    fn sizes(log: &Path) -> Vec<(String, u64)> {
        let entries = fs::read_dir(log).unwrap().flatten();
        let mut all: Vec<(String, u64)> = entries
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    entry.metadata().unwrap().len(),
                )
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_oldest_parts_of_all_logs_go_and_the_file_that_is_written_stays() {
        let pods = std::env::temp_dir().join(format!("k8s-cli-log-bound-{}", std::process::id()));
        let _ = fs::remove_dir_all(&pods);
        let running = pod(&pods, "running", 3, 2, false);
        let old = pod(&pods, "old", 2, 2, true);
        let new = pod(&pods, "new", 1, 2, true);
        let file = |number: u64, size: u64| (format!("{number:08}.log"), size);
        prune(&pods, 6000);
        assert_eq!(sizes(&running).len() + sizes(&old).len() + sizes(&new).len(), 6);
        prune(&pods, 3000);
        assert_eq!(sizes(&running), [file(1, 1000)]);
        assert_eq!(sizes(&old), [file(2, 0)]);
        assert_eq!(sizes(&new), [file(0, 1000), file(1, 1000)]);
        fs::remove_dir_all(pods).unwrap();
    }
}
