//! Copies one file: under another name until it is whole, and on from where a request broke off.

use std::fs::{self, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use tempfile::NamedTempFile;

use super::Failure;
use super::items::Item;
use super::origin::{Origin, Position, Refusal, Rest};
use crate::error::Error;
use crate::origin::Observer;
use crate::outage::{Outage, Pauses};
use crate::progress::NodeLog;

/// What the names of files begin with that are not whole. The rest is random: nodes may share a volume.
const PREFIX: &str = ".k8s-cli-copy-";

/// The mode of new files, before the mask of the process.
const MODE: u32 = 0o666;

/// All files of a copy.
pub(super) struct Copying {
    outage: Outage,
    log: Arc<NodeLog>,
    /// How many bytes of all files are there, if it is known how many there will be.
    bytes: Mutex<Option<u64>>,
}

impl Copying {
    pub(super) fn new(patience: Duration) -> Self {
        let log = Arc::new(NodeLog::new());
        Self {
            outage: Outage::new(patience, Arc::clone(&log) as Arc<dyn Observer>),
            log,
            bytes: Mutex::new(None),
        }
    }

    /// Says how many bytes all files have together.
    pub(super) fn expect(&self, total: u64) {
        self.log.begin(total);
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = Some(0);
    }

    /// Notes that something has arrived.
    pub(super) fn arrived(&self) {
        self.outage.end();
    }

    /// Notes a failure. Fails if nothing has arrived for too long.
    pub(super) fn failed(&self, why: String) -> Result<(), Error> {
        self.outage.continue_after(why)
    }

    /// Copies an object of a folder.
    pub(super) async fn item(&self, origin: &Origin, item: &Item, into: &Path) -> Result<(), Error> {
        let to = into.join(item.path.as_path());
        match self.file(origin, &to).await {
            // An empty object whose name ends with `/` is listed without it: a folder with nothing in it.
            Err(Error::Nothing { .. }) if item.size == 0 => fs::create_dir_all(&to).map_err(Error::io("make", to)),
            result => result,
        }
    }

    /// Copies a file.
    pub(super) async fn file(&self, origin: &Origin, to: &Path) -> Result<(), Error> {
        if to.is_dir() {
            return Err(Error::IsFolder { path: to.to_owned() });
        }
        let folder = to
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file = None;
        let mut position = Position::default();
        let mut pauses = Pauses::new();
        loop {
            let before = position.bytes;
            let failure = match origin.rest(&position).await {
                Ok(rest) => {
                    self.arrived();
                    let file = match &mut file {
                        Some(file) => file,
                        // What does not exist leaves no trace.
                        None => file.insert(temporary(folder)?),
                    };
                    match self.append(rest, file, &mut position).await {
                        Ok(()) => break,
                        Err(failure) => failure,
                    }
                }
                Err(Refusal::Changed) => {
                    position = Position::default();
                    Failure::Transient("the file was replaced meanwhile".to_owned())
                }
                Err(Refusal::Missing(error)) => return Err(error),
                Err(Refusal::Failure(failure)) => failure,
            };
            if position.bytes > before {
                pauses = Pauses::new();
            }
            self.wait_after(failure, &mut pauses).await?;
        }
        let whole = file.map(|file| file.persist(to).map_err(|error| Error::io("write", to)(error.error)));
        whole.transpose().map(drop)
    }

    /// Writes what arrives. On one thread, so that a slow disk slows down the other files, too.
    async fn append(&self, mut rest: Rest, file: &mut NamedTempFile, position: &mut Position) -> Result<(), Failure> {
        let path = file.path().to_owned();
        let failed = |error| Failure::Final(Error::io("write", &path)(error));
        if rest.from != position.bytes {
            self.count(rest.from, position.bytes);
            position.bytes = rest.from;
        }
        file.as_file().set_len(position.bytes).map_err(failed)?;
        file.seek(SeekFrom::Start(position.bytes)).map_err(failed)?;
        position.version = rest.version;
        while let Some(chunk) = rest.stream.next().await {
            let chunk = chunk?;
            file.write_all(&chunk).map_err(failed)?;
            let before = position.bytes;
            position.bytes += chunk.len() as u64;
            self.count(position.bytes, before);
            self.arrived();
        }
        match rest.total {
            Some(total) if position.bytes < total => Err(Failure::Transient("the answer ended early".to_owned())),
            Some(total) if position.bytes > total => {
                *position = Position::default();
                Err(Failure::Transient("the answer was longer than announced".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Counts the bytes of a file.
    fn count(&self, now: u64, before: u64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = bytes.as_mut() {
            *bytes = (*bytes + now).saturating_sub(before);
            self.log.written(*bytes);
        }
    }
}

fn temporary(folder: &Path) -> Result<NamedTempFile, Error> {
    fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix(PREFIX).permissions(Permissions::from_mode(MODE));
    builder.tempfile_in(folder).map_err(Error::io("write to", folder))
}
