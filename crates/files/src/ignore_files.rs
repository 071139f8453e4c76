//! Reads the files with patterns: `.skyignore`, and what git reads, in a folder and above it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::defaults::open_file;
use crate::error::Error;
use crate::left_out::IgnoreFile;

/// The longest file with patterns, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The patterns of a file, and those that hold if none of them matches.
#[derive(Debug)]
pub(crate) struct Patterns {
    matcher: Gitignore,
    above: Option<Rc<Patterns>>,
}

/// What a pattern says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says<'a> {
    Ignore,
    /// The pattern asks for it.
    Include(&'a str),
}

impl Patterns {
    /// What the first pattern that matches a path says, those of deeper folders first, as in git.
    pub(crate) fn say<'a>(mut patterns: Option<&'a Self>, path: &Path, is_directory: bool) -> Option<Says<'a>> {
        while let Some(Self { matcher, above }) = patterns {
            match matcher.matched(path, is_directory) {
                Match::Ignore(_) => return Some(Says::Ignore),
                Match::Whitelist(glob) => return Some(Says::Include(glob.original())),
                Match::None => patterns = above.as_deref(),
            }
        }
        None
    }
}

/// The patterns of the `.skyignore` of a folder, if there is one.
pub(crate) fn skyignore(folder: &Path) -> Result<Option<Rc<Patterns>>, Error> {
    let path = folder.join(IgnoreFile::Skyignore.name());
    match read(&path)? {
        Some(text) => parse(folder, &path, &text, None).map(Some),
        None => Ok(None),
    }
}

/// The patterns of the `.gitignore` of a folder in one that has those above, or only these.
pub(crate) fn gitignore(folder: &Path, above: Option<Rc<Patterns>>) -> Result<Option<Rc<Patterns>>, Error> {
    with_file(folder, &folder.join(IgnoreFile::Gitignore.name()), above)
}

/// The patterns that hold in a folder because it is in a repository: the file of the user for all repositories (`global`),
/// that of this one, and the `.gitignore` of each folder above. None if git ignores the folder itself: the caller asks for it
/// wants what is in it.
pub(crate) fn git_above(root: &Path, global: Option<&Path>) -> Result<Option<Rc<Patterns>>, Error> {
    let Some(repository) = root.ancestors().find(|folder| folder.join(".git").exists()) else {
        return Ok(None);
    };
    let mut patterns = None;
    if let Some(global) = global {
        patterns = with_file(repository, global, patterns)?;
    }
    if let Some(exclude) = git_folder(repository).map(|folder| folder.join("info/exclude")) {
        patterns = with_file(repository, &exclude, patterns)?;
    }
    let mut below: Vec<&Path> = root.ancestors().take_while(|folder| *folder != repository).collect();
    below.reverse();
    let mut folder = repository;
    for next in below {
        patterns = gitignore(folder, patterns)?;
        if Patterns::say(patterns.as_deref(), next, true) == Some(Says::Ignore) {
            return Ok(None);
        }
        folder = next;
    }
    Ok(patterns)
}

/// Where a repository keeps what all its working trees share.
fn git_folder(repository: &Path) -> Option<PathBuf> {
    let git = repository.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    // A working tree beside the first one has a file that names its own folder, and that one names the shared one.
    let text = read(&git).ok()??;
    let own = repository.join(text.strip_prefix("gitdir:")?.trim());
    let common = read(&own.join("commondir")).ok()?;
    Some(match common {
        Some(common) => own.join(common.trim()),
        None => own,
    })
}

fn with_file(folder: &Path, path: &Path, above: Option<Rc<Patterns>>) -> Result<Option<Rc<Patterns>>, Error> {
    match read(path)? {
        Some(text) => parse(folder, path, &text, above).map(Some),
        None => Ok(above),
    }
}

/// The text of a file with patterns, or `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        // A folder of this name, or a link to nothing, is not an ignore file for git either.
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    }
    let Some(file) = open_file(path) else {
        // Gone meanwhile, or one that may not be read.
        return match fs::File::open(path) {
            Err(error) if !is_absent(&error) => Err(Error::io("read", path)(error)),
            _ => Ok(None),
        };
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::io("read", path)(io::Error::other(
            "it has more than 1 MiB, which no file with patterns has",
        )));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whether an error says that there is nothing, e.g., because the folder has gone meanwhile.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn parse(folder: &Path, path: &Path, text: &str, above: Option<Rc<Patterns>>) -> Result<Rc<Patterns>, Error> {
    let path = path.to_owned();
    let is_ours = path
        .file_name()
        .is_some_and(|name| name == IgnoreFile::Skyignore.name());
    let mut builder = GitignoreBuilder::new(folder);
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let added = builder.add_line(Some(path.clone()), line);
        // Git passes over what is not a pattern, and a `.gitignore` may be somebody else's. A `.skyignore` is for us.
        if let Err(source) = added
            && is_ours
        {
            let line = number + 1;
            return Err(Error::Pattern { path, line, source });
        }
    }
    let matcher = builder
        .build()
        .map_err(|source| Error::Pattern { path, line: 0, source })?;
    Ok(Rc::new(Patterns { matcher, above }))
}
