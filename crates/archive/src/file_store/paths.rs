//! The paths of files in the store, and what is read from them.

use files::{ContentHash, ManifestHash};
use object_store::path::Path;
use sha2::{Digest, Sha256};

use crate::key::RecordKey;

/// The prefix of all files.
pub(super) const FILES: &str = "files";

const CONTENTS: &str = "contents";
const SETS: &str = "sets";
const OUTPUTS: &str = "outputs";

/// The name of a user in paths: the SHA-256, because a name may have characters that a path must not have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct UserPrefix(String);

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Stored {
    Content(ContentHash),
    Set(ManifestHash),
    /// The name of the file set with the outputs of a task.
    Outputs(RecordKey),
}

impl UserPrefix {
    pub(super) fn of(user: &str) -> Self {
        Self(format!("{:x}", Sha256::digest(user)))
    }

    /// The prefix of everything that the user has stored.
    pub(super) fn all(&self) -> Path {
        Path::from(format!("{FILES}/{}", self.0))
    }

    /// The prefix of all file sets of the user.
    pub(super) fn sets(&self) -> Path {
        Path::from(format!("{FILES}/{}/{SETS}", self.0))
    }

    pub(super) fn content(&self, hash: &ContentHash) -> Path {
        Path::from(format!("{FILES}/{}/{CONTENTS}/{hash}", self.0))
    }

    pub(super) fn set(&self, hash: &ManifestHash) -> Path {
        Path::from(format!("{FILES}/{}/{SETS}/{hash}", self.0))
    }

    pub(super) fn outputs(&self, task: &RecordKey) -> Path {
        Path::from(format!("{FILES}/{}/{OUTPUTS}/{}", self.0, task.as_str()))
    }
}

/// What an object is, and whose. The folder or the bucket may also have objects of others, which are none of ours.
pub(super) fn parse(path: &Path) -> Option<(UserPrefix, Stored)> {
    let mut parts = path.as_ref().splitn(4, '/');
    let [prefix, user, kind, name] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    if prefix != FILES {
        return None;
    }
    // The digest of a name is written as any other hash.
    user.parse::<ContentHash>().ok()?;
    let stored = match kind {
        CONTENTS => Stored::Content(name.parse().ok()?),
        SETS => Stored::Set(name.parse().ok()?),
        OUTPUTS => Stored::Outputs(RecordKey::from_text(name)?),
        _ => return None,
    };
    Some((UserPrefix(user.to_owned()), stored))
}

#[cfg(test)]
mod tests {
    use files::{ContentHash, ManifestHash};
    use object_store::path::Path;

    use super::{Stored, UserPrefix, parse};
    use crate::key::RecordKey;

    #[test]
    fn paths_are_read_as_they_are_written() {
        let user = UserPrefix::of("alice@example.com");
        let (content, set) = (ContentHash::of(b"one"), ManifestHash::of(b"two"));
        let parsed = parse(&user.content(&content));
        assert_eq!(parsed, Some((user.clone(), Stored::Content(content))));
        assert_eq!(parse(&user.set(&set)), Some((user.clone(), Stored::Set(set))));
        let task = RecordKey::new(jiff::Timestamp::UNIX_EPOCH, "abcd1234", "s");
        assert_eq!(parse(&user.outputs(&task)), Some((user, Stored::Outputs(task))));
    }

    #[test]
    fn objects_of_others_are_none_of_ours() {
        let ours = UserPrefix::of("alice").content(&ContentHash::of(b"one"));
        for path in [
            "files/project/contents/report.pdf".to_owned(),
            "files/project/sets/set.json".to_owned(),
            format!("{ours}/thesis.tex"),
            ours.as_ref().replace("contents", "outputs"),
            ours.as_ref().replace("contents", "outputs/1970-01-01"),
            format!("{ours}0"),
            ours.as_ref().replace("contents", "notes"),
            ours.as_ref().replace("files", "other"),
            ours.as_ref().to_uppercase(),
        ] {
            assert_eq!(parse(&Path::from(path.as_str())), None, "{path}");
        }
    }
}
