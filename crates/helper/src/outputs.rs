//! Sends the outputs of a task to the server: the files and folders that the task names.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use files::{EntryPath, HashCache, HumanSize, Limits, Manifest, ManifestHash, Part, Selection, Walk, send_packs};
use tokio::sync::mpsc;

use crate::args::Keep;
use crate::error::Error;
use crate::source::Source;
use crate::upload::Upload;

/// How often outputs are read that change while they are read.
const MAX_READS: u32 = 3;

/// The server has limits of its own.
const WALK: Walk = Walk {
    limits: Limits::NONE,
    everything: true,
};

/// An output that is there.
struct Output {
    name: EntryPath,
    is_folder: bool,
    selection: Selection,
    manifest: Manifest,
}

/// Whether the outputs can be read once more if they change meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Try {
    Again,
    Last,
}

/// Sends the outputs. Those that do not exist are named and left out, and one that cannot be read does not keep the others
/// from being sent.
pub(crate) fn keep(args: Keep) -> Result<(), Error> {
    let source = Source::from_environment()?;
    let upload = Upload::new(source, args.patience);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io("start", "the event loop"))?;
    let paths = parse(args.outputs)?;
    let mut reads = 1;
    loop {
        let which = if reads < MAX_READS { Try::Again } else { Try::Last };
        match runtime.block_on(keep_as_they_are(&upload, &paths, which)) {
            Err(Error::Files(error)) if which == Try::Again && has_changed(&error) => reads += 1,
            kept => return kept,
        }
    }
}

/// Pairs of a name and a path.
fn parse(arguments: Vec<OsString>) -> Result<Vec<(EntryPath, PathBuf)>, Error> {
    let wrong = |text: &OsString| Error::Output {
        text: text.to_string_lossy().into_owned(),
    };
    let pair = |pair: &[OsString]| match pair {
        [name, path] => {
            let name = EntryPath::new(name.as_encoded_bytes()).map_err(|_| wrong(name))?;
            Ok((name, PathBuf::from(path)))
        }
        _ => Err(wrong(&pair[0])),
    };
    arguments.chunks(2).map(pair).collect()
}

async fn keep_as_they_are(upload: &Upload, paths: &[(EntryPath, PathBuf)], which: Try) -> Result<(), Error> {
    let (mut outputs, mut failures) = (Vec::with_capacity(paths.len()), Vec::new());
    for (name, path) in paths {
        match read(name, path) {
            Ok(output) => outputs.extend(output),
            Err(Error::Files(error)) if which == Try::Again && has_changed(&error) => return Err(error.into()),
            Err(error) => failures.push(format!("`{name}`: {error}")),
        }
    }
    let unreadable = outputs.iter().filter_map(Output::unreadable);
    failures.extend(unreadable);
    // Outputs of an earlier attempt are not those of this one.
    if !outputs.is_empty() || upload.replaces() {
        send(upload, outputs).await?;
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(Error::Outputs(failures)),
    }
}

async fn send(upload: &Upload, outputs: Vec<Output>) -> Result<(), Error> {
    let manifest = Manifest::joined(outputs.iter().map(Output::part))?;
    let encoded = Bytes::from(manifest.encode());
    let names: Vec<String> = outputs.iter().map(|output| format!("`{}`", output.name)).collect();
    let outputs = Arc::new(outputs);
    let packs = move |wanted, packs: mpsc::Sender<Bytes>| {
        let parts = outputs.iter().map(|output| (&output.selection, &output.manifest));
        Ok(send_packs(parts, wanted, |pack| packs.blocking_send(pack).is_ok())?)
    };
    upload.run(ManifestHash::of(&encoded), encoded, packs).await?;
    if names.is_empty() {
        eprintln!("[k8s-cli: kept nothing; outputs of earlier attempts are no longer kept]");
    } else {
        let size = HumanSize(manifest.total_bytes());
        eprintln!("[k8s-cli: kept {} ({size})]", names.join(", "));
    }
    Ok(())
}

/// Reads an output, unless it does not exist.
fn read(name: &EntryPath, path: &Path) -> Result<Option<Output>, Error> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            eprintln!("[k8s-cli: the output `{}` does not exist]", path.display());
            return Ok(None);
        }
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let selection = if metadata.is_dir() {
        WALK.fitting(path, name)?
    } else {
        // Its folders are those of the name of the output.
        let last = EntryPath::new(name.name()).map_err(files::Error::from)?;
        WALK.file(path, last)?
    };
    let unfit = &selection.left_out().unfit;
    if unfit.count() > 0 {
        eprintln!("[k8s-cli: left out of output `{name}` (special files, or links out of it): {unfit}]");
    }
    let manifest = selection.manifest(&HashCache::none(), |_| {})?;
    Ok(Some(Output {
        name: name.clone(),
        is_folder: metadata.is_dir(),
        selection,
        manifest,
    }))
}

impl Output {
    /// What is missing in it because it cannot be read.
    fn unreadable(&self) -> Option<String> {
        let paths = &self.selection.left_out().unreadable;
        (paths.count() > 0).then(|| format!("`{}` is kept without what cannot be read: {paths}", self.name))
    }

    fn part(&self) -> Part<'_> {
        let (name, manifest) = (self.name.clone(), &self.manifest);
        match self.is_folder {
            true => Part::Folder(name, manifest),
            false => Part::File(name, manifest),
        }
    }
}

/// Whether another try may find files that do not change.
fn has_changed(error: &files::Error) -> bool {
    matches!(error, files::Error::Changed { .. })
}

#[cfg(test)]
mod tests;
