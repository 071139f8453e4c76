//! What of a folder is left out: what its ignore files say, and what nobody wants on another machine.

use std::ffi::OsStr;
use std::path::{Component, Path};
use std::rc::Rc;

use ignore::gitignore::gitconfig_excludes_path;

use crate::defaults::{Reason, reason};
use crate::error::Error;
use crate::ignore_files::{Patterns, Says, git_above, gitignore, skyignore};
use crate::left_out::IgnoreFile;

/// What is to be done with something in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// It is taken, but would not be without the `.skyignore`.
    TakeThoughGitIgnores,
    /// A pattern says so.
    Ignored,
    /// No pattern asks for it, and it is left out by default.
    LeftOut(Reason),
}

/// The patterns that hold in a folder.
#[derive(Debug, Clone)]
pub(crate) struct IgnoreRules {
    source: Source,
    /// Those of the `.skyignore` in the root.
    skyignore: Option<Rc<Patterns>>,
    /// What git would say: those of the folder's own ignore file, and of all above.
    git: Option<Rc<Patterns>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Skyignore,
    Gitignore,
    /// Everything is taken.
    Nothing,
}

impl IgnoreRules {
    /// The rules of the root of a folder.
    pub(crate) fn of_root(root: &Path, everything: bool) -> Result<Self, Error> {
        let mut rules = Self {
            source: Source::Nothing,
            skyignore: None,
            git: None,
        };
        if everything {
            return Ok(rules);
        }
        rules.skyignore = skyignore(root)?;
        rules.source = match rules.skyignore {
            Some(_) => Source::Skyignore,
            None => Source::Gitignore,
        };
        rules.git = rules.unless_replaced(git_above(root, gitconfig_excludes_path().as_deref()))?;
        rules.of_folder(root)
    }

    /// The rules of a folder in one that has these rules, or of the root.
    pub(crate) fn of_folder(&self, folder: &Path) -> Result<Self, Error> {
        let mut rules = self.clone();
        if self.source != Source::Nothing {
            rules.git = self.unless_replaced(gitignore(folder, self.git.clone()))?;
        }
        Ok(rules)
    }

    /// What git would say is only told if a `.skyignore` replaces it, so that it is no reason to fail.
    fn unless_replaced(&self, git: Result<Option<Rc<Patterns>>, Error>) -> Result<Option<Rc<Patterns>>, Error> {
        match self.source {
            Source::Skyignore => Ok(git.unwrap_or_default()),
            Source::Gitignore | Source::Nothing => git,
        }
    }

    /// The rules without git's: in a folder that git ignores, not everything is told again.
    pub(crate) fn without_git(mut self) -> Self {
        self.git = None;
        self
    }

    /// The file whose patterns are asked.
    pub(crate) fn ignore_file(&self) -> IgnoreFile {
        match self.source {
            Source::Skyignore => IgnoreFile::Skyignore,
            Source::Gitignore | Source::Nothing => IgnoreFile::Gitignore,
        }
    }

    /// What is to be done with this path, which is directly in the folder of the rules.
    pub(crate) fn verdict(&self, path: &Path, is_directory: bool) -> Verdict {
        let ask = |patterns: &Option<Rc<Patterns>>| verdict(patterns.as_deref(), path, is_directory);
        match self.source {
            Source::Nothing => Verdict::Take,
            Source::Gitignore => ask(&self.git),
            Source::Skyignore => match ask(&self.skyignore) {
                Verdict::Take if ask(&self.git) == Verdict::Ignored => Verdict::TakeThoughGitIgnores,
                verdict => verdict,
            },
        }
    }
}

fn verdict(patterns: Option<&Patterns>, path: &Path, is_directory: bool) -> Verdict {
    let says = Patterns::say(patterns, path, is_directory);
    let name = path.file_name().unwrap_or_default();
    match (says, reason(path, is_directory)) {
        (Some(Says::Include(pattern)), Some(reason)) => {
            // `!*/` of somebody who takes only some kinds of files does not ask for `.git`; `!.git` does.
            if names(pattern, name) {
                Verdict::Take
            } else {
                Verdict::LeftOut(reason)
            }
        }
        // The name says more than that there is a pattern, too.
        (_, Some(reason)) => Verdict::LeftOut(reason),
        (Some(Says::Ignore), None) => Verdict::Ignored,
        (Some(Says::Include(_)) | None, None) => Verdict::Take,
    }
}

/// Whether the last component of a pattern is this name.
fn names(pattern: &str, name: &OsStr) -> bool {
    let last = Path::new(pattern.trim_start_matches('!').trim_end())
        .components()
        .next_back();
    last == Some(Component::Normal(name))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::Path;

    use super::{IgnoreRules, Source, Verdict, git_above, gitignore, names};

    #[test]
    fn a_pattern_asks_for_a_name_only_if_it_says_the_name() {
        for pattern in ["!.git", "!/.git/", "!**/.git", "!sub/.git "] {
            assert!(names(pattern, OsStr::new(".git")), "{pattern}");
        }
        for pattern in ["!*", "!*/", "!.gi?", "!.git/**", "!", ""] {
            assert!(!names(pattern, OsStr::new(".git")), "{pattern}");
        }
    }

    /// Whether git ignores a file in the folder `pkg/app` of a repository with these files.
    fn ignored(files: &[(&str, &str)], name: &str) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo/pkg/app");
        fs::create_dir_all(&root).unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let global = dir.path().join("global");
        let above = git_above(&root, Some(&global)).unwrap();
        let rules = IgnoreRules {
            source: Source::Gitignore,
            skyignore: None,
            git: gitignore(&root, above).unwrap(),
        };
        let is_directory = name.ends_with('/');
        rules.verdict(&root.join(Path::new(name)), is_directory) == Verdict::Ignored
    }

    #[test]
    fn all_files_that_git_reads_say_what_it_ignores() {
        let head = ("repo/.git/HEAD", "");
        for place in [
            "global",
            "repo/.git/info/exclude",
            "repo/.gitignore",
            "repo/pkg/.gitignore",
            "repo/pkg/app/.gitignore",
        ] {
            assert!(ignored(&[head, (place, ".env\n")], ".env"), "{place}");
            assert!(!ignored(&[head, (place, ".env\n")], "train.py"), "{place}");
        }
        let anchored = [head, ("repo/.gitignore", "/pkg/app/.env\n/other\n")];
        assert!(ignored(&anchored, ".env") && !ignored(&anchored, "other"));
        // A deeper file decides.
        let deeper = [
            head,
            ("repo/.gitignore", "*.env\n"),
            ("repo/pkg/.gitignore", "!a.env\n"),
        ];
        assert!(ignored(&deeper, "b.env") && !ignored(&deeper, "a.env"));
    }

    #[test]
    fn files_above_hold_only_in_a_repository_and_not_in_a_folder_that_git_ignores() {
        assert!(!ignored(&[("repo/.gitignore", ".env\n"), ("global", ".env\n")], ".env"));
        let head = ("repo/.git/HEAD", "");
        // Of somebody whose home is a repository that ignores everything.
        assert!(!ignored(&[head, ("repo/.gitignore", "*\n")], "train.py"));
        assert!(!ignored(&[head, ("repo/.gitignore", "/pkg/app/\n.env\n")], ".env"));
        // Nothing above the repository is asked.
        assert!(!ignored(&[head, (".gitignore", ".env\n")], ".env"));
    }

    #[test]
    fn another_working_tree_has_the_excludes_of_its_repository() {
        let files = [
            ("repo/.git", "gitdir: ../main/.git/worktrees/repo\n"),
            ("main/.git/worktrees/repo/commondir", "../..\n"),
            ("main/.git/info/exclude", ".env\n"),
        ];
        assert!(ignored(&files, ".env"));
    }
}
