//! The path of an entry: relative, of raw bytes, and never able to leave the folder it is joined to.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::text;

/// The longest path, in bytes. Linux takes no longer one in a call.
const MAX_PATH: usize = 4096;

/// The longest component, in bytes. No common file system takes a longer one.
const MAX_COMPONENT: usize = 255;

/// The most components. Unpacking holds a handle for each folder on the way, and has about 1,000 of them.
const MAX_DEPTH: usize = 255;

/// A relative path of raw bytes, with at most 4,096 bytes, 255 components, and 255 bytes per component.
///
/// No component is empty, `.`, or `..`, and none contains NUL. Paths are ordered by component, so a folder comes before
/// what is in it, and all that is in it comes before its next sibling.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Box<[u8]>);

/// Why bytes are not a path of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path `{}` is invalid: {reason}", text::shortened(path))]
pub struct InvalidPath {
    /// The text of the path.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl InvalidPath {
    fn new(bytes: &[u8], reason: &'static str) -> Self {
        // A hostile path may be as long as a request.
        let path = text::encode(bytes.get(..MAX_PATH).unwrap_or(bytes));
        Self { path, reason }
    }
}

impl EntryPath {
    /// Checks the bytes of a path.
    ///
    /// # Errors
    ///
    /// If they are absolute, too long, or have a component that no entry has.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, InvalidPath> {
        let bytes = bytes.into();
        match fault(&bytes) {
            None => Ok(Self(bytes.into())),
            Some(reason) => Err(InvalidPath::new(&bytes, reason)),
        }
    }

    /// The entry with this name in a folder, or in the root.
    pub(crate) fn child(parent: Option<&Self>, name: &[u8]) -> Result<Self, InvalidPath> {
        match parent {
            None => Self::new(name),
            Some(parent) => Self::new([parent.as_bytes(), b"/", name].concat()),
        }
    }

    /// The path as it is on Unix.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path, to be joined to that of a folder.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The names on the way, the last one included.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        let start = memchr::memrchr(b'/', &self.0).map_or(0, |slash| slash + 1);
        &self.0[start..]
    }

    /// The path of the folder, or `None` in the root.
    #[must_use]
    pub fn parent(&self) -> Option<&[u8]> {
        memchr::memrchr(b'/', &self.0).map(|slash| &self.0[..slash])
    }
}

fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("it is empty");
    }
    if bytes.starts_with(b"/") {
        return Some("it is absolute");
    }
    if bytes.len() > MAX_PATH {
        return Some("it is longer than 4,096 bytes");
    }
    if memchr::memchr(0, bytes).is_some() {
        return Some("it contains a NUL byte");
    }
    let mut depth = 0;
    for component in bytes.split(|byte| *byte == b'/') {
        match component {
            b"" => return Some("it has an empty component"),
            b"." => return Some("it has the component `.`"),
            b".." => return Some("it has the component `..`"),
            _ if component.len() > MAX_COMPONENT => return Some("it has a component longer than 255 bytes"),
            _ => depth += 1,
        }
    }
    (depth > MAX_DEPTH).then_some("it has more than 255 components")
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // No component contains NUL, so a `/` that counts as NUL sorts before any other byte.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Reads the text form, in which bytes that are not UTF-8, control characters, and `%` are percent-encoded.
impl FromStr for EntryPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        const REASON: &str = "it is not percent-encoded as it should be";
        Self::new(text::decode(text).ok_or_else(|| InvalidPath::new(text.as_bytes(), REASON))?)
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text::encode(&self.0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{self}`")
    }
}

impl Serialize for EntryPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{EntryPath, MAX_COMPONENT, MAX_DEPTH, MAX_PATH};

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text).unwrap()
    }

    #[test]
    fn a_path_cannot_leave_the_folder_it_is_joined_to() {
        for bytes in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "a/.",
            "a//b",
            "a/",
            "a\0b",
            "a/b\0",
        ] {
            assert!(EntryPath::new(bytes).is_err(), "{bytes:?}");
        }
        for bytes in ["a", "..a", "a..", "...", ".a", "a/.b", " ", "-rf", "a\nb", "a\\b"] {
            assert!(EntryPath::new(bytes).is_ok(), "{bytes:?}");
        }
    }

    #[test]
    fn a_path_is_not_longer_or_deeper_than_file_systems_allow() {
        assert!(EntryPath::new("x".repeat(MAX_COMPONENT)).is_ok());
        assert!(EntryPath::new("x".repeat(MAX_COMPONENT + 1)).is_err());
        assert!(EntryPath::new(vec!["x"; MAX_DEPTH].join("/")).is_ok());
        assert!(EntryPath::new(vec!["x"; MAX_DEPTH + 1].join("/")).is_err());
        let long = vec!["x".repeat(MAX_COMPONENT); MAX_PATH / (MAX_COMPONENT + 1)].join("/");
        assert!(EntryPath::new(format!("{long}/")[..].to_owned() + "x").is_err() == (long.len() + 2 > MAX_PATH));
        assert!(EntryPath::new(format!("{long}/xx")).is_err());
    }

    #[test]
    fn a_folder_comes_before_what_is_in_it_and_that_before_the_next_sibling() {
        let mut paths = ["a-b", "a/z", "a", "b", "a/b/c", "a.b", "a/b", "a\u{1}"].map(path);
        paths.sort();
        assert_eq!(
            paths,
            ["a", "a/b", "a/b/c", "a/z", "a\u{1}", "a-b", "a.b", "b"].map(path)
        );
    }

    #[test]
    fn a_path_knows_its_name_and_its_folder() {
        assert_eq!((path("a").parent(), path("a").name()), (None, &b"a"[..]));
        assert_eq!(
            (path("a/b/c").parent(), path("a/b/c").name()),
            (Some(&b"a/b"[..]), &b"c"[..])
        );
    }

    proptest! {
        #[test]
        fn the_text_of_a_path_is_read_back(bytes: Vec<u8>) {
            if let Ok(path) = EntryPath::new(bytes) {
                prop_assert_eq!(path.to_string().parse(), Ok(path));
            }
        }

        #[test]
        fn a_path_that_is_accepted_has_only_ordinary_components(bytes in "[a./\\PC]{0,12}") {
            if let Ok(path) = EntryPath::new(bytes) {
                let ordinary = |part| matches!(part, std::path::Component::Normal(_));
                prop_assert!(path.as_path().components().all(ordinary));
                prop_assert_eq!(path.as_path().components().count(), path.components().count());
            }
        }

        #[test]
        fn the_order_is_that_of_the_components(left in "[ab./-]{1,6}", right in "[ab./-]{1,6}") {
            if let (Ok(left), Ok(right)) = (EntryPath::new(left), EntryPath::new(right)) {
                prop_assert_eq!(left.cmp(&right), left.components().cmp(right.components()));
            }
        }
    }
}
