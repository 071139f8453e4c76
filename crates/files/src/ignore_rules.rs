//! What of a folder is left out: what its ignore files say, and what nobody wants on another machine.

use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::{Component, Path};
use std::rc::Rc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::Error;

/// The ignore file of this program, only in the root of a folder. If it exists, `.gitignore` files are not asked.
pub(crate) const SKYIGNORE: &str = ".skyignore";

const GITIGNORE: &str = ".gitignore";

/// Left out wherever they are: histories, environments of this machine, and caches. Any folder with a [`VENV_MARK`], too.
const DEFAULTS: [&str; 10] = [
    ".git",
    ".venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    ".tox",
    ".DS_Store",
];

/// Every virtual environment has this file, whatever its name is.
const VENV_MARK: &str = "pyvenv.cfg";

/// Programs mark their caches with this file, which begins with a signature (<https://bford.info/cachedir/>).
const CACHE_MARK: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is to be done with something in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// A pattern says so.
    Ignored,
    /// No pattern asks for it, and it is left out by default.
    LeftOut,
}

/// The patterns that hold in a folder: those of its own ignore file, and those above.
#[derive(Debug, Clone)]
pub(crate) struct IgnoreRules {
    source: Source,
    patterns: Option<Rc<Patterns>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Skyignore,
    Gitignore,
    /// Everything is taken.
    Nothing,
}

#[derive(Debug)]
struct Patterns {
    matcher: Gitignore,
    above: Option<Rc<Patterns>>,
}

impl IgnoreRules {
    /// The rules of the root of a folder.
    pub(crate) fn of_root(root: &Path, everything: bool) -> Result<Self, Error> {
        let nothing = Self {
            source: Source::Nothing,
            patterns: None,
        };
        if everything {
            return Ok(nothing);
        }
        match read(root, SKYIGNORE)? {
            Some(text) => Ok(Self {
                source: Source::Skyignore,
                patterns: parse(root, SKYIGNORE, &text, None)?,
            }),
            None => Self {
                source: Source::Gitignore,
                ..nothing
            }
            .of_folder(root),
        }
    }

    /// The rules of a folder in one that has these rules, or of the root.
    pub(crate) fn of_folder(&self, folder: &Path) -> Result<Self, Error> {
        let mut rules = self.clone();
        if self.source == Source::Gitignore
            && let Some(text) = read(folder, GITIGNORE)?
        {
            rules.patterns = parse(folder, GITIGNORE, &text, self.patterns.clone())?;
        }
        Ok(rules)
    }

    /// What is to be done with this path, which is directly in the folder of the rules.
    pub(crate) fn verdict(&self, path: &Path, is_directory: bool) -> Verdict {
        if self.source == Source::Nothing {
            return Verdict::Take;
        }
        let name = path.file_name().unwrap_or_default();
        let by_default = is_left_out(path, name, is_directory);
        let mut patterns = &self.patterns;
        // The patterns of a deeper folder come first, as in git.
        while let Some(Patterns { matcher, above }) = patterns.as_deref() {
            match matcher.matched(path, is_directory) {
                Match::Ignore(_) => return Verdict::Ignored,
                // `!*/` of somebody who takes only some kinds of files does not ask for `.git`; `!.git` does.
                Match::Whitelist(glob) if !by_default || names(glob.original(), name) => return Verdict::Take,
                Match::Whitelist(_) => return Verdict::LeftOut,
                Match::None => patterns = above,
            }
        }
        if by_default { Verdict::LeftOut } else { Verdict::Take }
    }
}

fn is_left_out(path: &Path, name: &OsStr, is_directory: bool) -> bool {
    DEFAULTS.iter().any(|default| name == *default)
        || (is_directory && (path.join(VENV_MARK).is_file() || is_cache(path)))
}

fn is_cache(folder: &Path) -> bool {
    let mut start = [0; CACHE_SIGNATURE.len()];
    let mark = File::open(folder.join(CACHE_MARK)).and_then(|mut mark| mark.read_exact(&mut start));
    mark.is_ok() && start == CACHE_SIGNATURE
}

/// Whether the last component of a pattern is this name.
fn names(pattern: &str, name: &OsStr) -> bool {
    let last = Path::new(pattern.trim_start_matches('!').trim_end())
        .components()
        .next_back();
    last == Some(Component::Normal(name))
}

/// The text of an ignore file, or `None` if there is none.
fn read(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    let path = folder.join(name);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        // A folder of this name, or a link to nothing, is not an ignore file for git either.
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    }
    let bytes = fs::read(&path).map_err(Error::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn parse(folder: &Path, name: &str, text: &str, above: Option<Rc<Patterns>>) -> Result<Option<Rc<Patterns>>, Error> {
    let path = folder.join(name);
    let mut builder = GitignoreBuilder::new(folder);
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let added = builder.add_line(Some(path.clone()), line);
        // Git passes over what is no pattern, and a `.gitignore` may be somebody else's. A `.skyignore` is for us.
        if let Err(source) = added
            && name == SKYIGNORE
        {
            let line = number + 1;
            return Err(Error::Pattern { path, line, source });
        }
    }
    let matcher = builder
        .build()
        .map_err(|source| Error::Pattern { path, line: 0, source })?;
    Ok(Some(Rc::new(Patterns { matcher, above })))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::names;

    #[test]
    fn a_pattern_asks_for_a_name_only_if_it_says_the_name() {
        for pattern in ["!.git", "!/.git/", "!**/.git", "!sub/.git "] {
            assert!(names(pattern, OsStr::new(".git")), "{pattern}");
        }
        for pattern in ["!*", "!*/", "!.gi?", "!.git/**", "!", ""] {
            assert!(!names(pattern, OsStr::new(".git")), "{pattern}");
        }
    }
}
