//! An entry of a manifest: a folder, a file, or a symbolic link, and its line of JSON.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::content::{Content, fault_of};
use crate::entry_path::EntryPath;
use crate::mtime::Mtime;
use crate::text;

/// The longest target of a link, in bytes. Linux takes no longer one.
const MAX_TARGET: usize = 4095;

/// A folder, a file, or a symbolic link, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder. What is in it are entries of their own.
    Directory {
        /// Who may use it.
        mode: Mode,
    },
    /// A file.
    File {
        /// Who may use it.
        mode: Mode,
        /// When it was last changed; `None` if the listing does not say.
        mtime: Option<Mtime>,
        /// What is in it, in order. An empty file has none.
        contents: Vec<Content>,
    },
    /// A symbolic link.
    Link {
        /// Where it points to.
        target: LinkTarget,
    },
}

impl EntryKind {
    /// The size of a file in bytes; 0 for others.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.contents().iter().map(|content| u64::from(content.length())).sum()
    }

    /// The contents of a file; none for others.
    #[must_use]
    pub fn contents(&self) -> &[Content] {
        match self {
            Self::File { contents, .. } => contents,
            Self::Directory { .. } | Self::Link { .. } => &[],
        }
    }
}

/// The permission bits of a file or folder, `0o000` to `0o777`. In JSON, three octal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode(u16);

impl Mode {
    /// The mode of a folder that nobody has given one.
    pub(crate) const FOLDER: Self = Self(0o755);

    /// The permission bits of this mode. Others, e.g., set-user-ID, are dropped.
    #[must_use]
    pub fn new(mode: u32) -> Self {
        // Nine bits fit.
        Self((mode & 0o777) as u16)
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        u32::from(self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:03o}", self.0)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.map(Self::new)
            .ok_or_else(|| D::Error::custom("a mode is three octal digits"))
    }
}

/// Where a link points to: 1 to 4,095 bytes without NUL. Whether it stays in the tree is checked by the manifest.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LinkTarget(Box<[u8]>);

impl LinkTarget {
    /// The target with these bytes, or `None` if no link has it.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        let is_target = (1..=MAX_TARGET).contains(&bytes.len()) && memchr::memchr(0, &bytes).is_none();
        is_target.then(|| Self(bytes.into()))
    }

    /// The target as it is on Unix.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text::encode(&self.0))
    }
}

impl fmt::Debug for LinkTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{self}`")
    }
}

/// The fields of a line, in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    kind: LineKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<Mtime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contents: Option<Cow<'a, [Content]>>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LineKind {
    Directory,
    File,
    Link,
}

impl Entry {
    /// Appends the line of the entry, with its end.
    pub(crate) fn write_line(&self, lines: &mut Vec<u8>) {
        let path = Cow::Owned(self.path.to_string());
        let line = match &self.kind {
            EntryKind::Directory { mode } => Line {
                path,
                kind: LineKind::Directory,
                mode: Some(*mode),
                mtime: None,
                contents: None,
                target: None,
            },
            EntryKind::File { mode, mtime, contents } => Line {
                path,
                kind: LineKind::File,
                mode: Some(*mode),
                mtime: *mtime,
                contents: Some(Cow::Borrowed(contents)),
                target: None,
            },
            EntryKind::Link { target } => Line {
                path,
                kind: LineKind::Link,
                mode: None,
                mtime: None,
                contents: None,
                target: Some(Cow::Owned(target.to_string())),
            },
        };
        // Memory takes every line, and none has keys that are not text.
        let written = serde_json::to_writer(&mut *lines, &line);
        debug_assert!(written.is_ok(), "{written:?}");
        lines.push(b'\n');
    }

    /// Reads a line without its end. Says what is wrong with it if it is not exactly as [`Self::write_line`] writes it.
    pub(crate) fn read_line(line: &[u8]) -> Result<Self, String> {
        let fields: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let path: EntryPath = fields.path.parse().map_err(|error| format!("{error}"))?;
        let kind = match (fields.kind, fields.mode, fields.mtime, fields.contents, fields.target) {
            (LineKind::Directory, Some(mode), None, None, None) => EntryKind::Directory { mode },
            (LineKind::File, Some(mode), mtime, Some(contents), None) => {
                if let Some(fault) = fault_of(&contents) {
                    return Err(format!("the contents of `{path}` are invalid: {fault}"));
                }
                let contents = contents.into_owned();
                EntryKind::File { mode, mtime, contents }
            }
            (LineKind::Link, None, None, None, Some(target)) => {
                let target = text::decode(&target).and_then(LinkTarget::new);
                let target = target.ok_or_else(|| format!("the target of the link `{path}` is invalid"))?;
                EntryKind::Link { target }
            }
            _ => return Err(format!("`{path}` has not the fields of its kind")),
        };
        let entry = Self { path, kind };
        let mut canonical = Vec::with_capacity(line.len() + 1);
        entry.write_line(&mut canonical);
        if canonical.strip_suffix(b"\n") != Some(line) {
            return Err(format!("the line of `{}` is not written as it should be", entry.path));
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn only_the_one_way_to_write_an_entry_is_read() {
        let hash = "a".repeat(64);
        let lines = [
            r#"{"path":"a","kind":"directory","mode":"755"}"#.to_owned(),
            r#"{"path":"a/b \" %25%FF","kind":"file","mode":"004","contents":[]}"#.to_owned(),
            format!(r#"{{"path":"a","kind":"file","mode":"644","contents":[["{hash}",7]]}}"#),
            r#"{"path":"a","kind":"file","mode":"644","mtime":0,"contents":[]}"#.to_owned(),
            r#"{"path":"a","kind":"file","mode":"644","mtime":8589934591,"contents":[]}"#.to_owned(),
            r#"{"path":"l","kind":"link","target":"../a%0A"}"#.to_owned(),
        ];
        for line in &lines {
            let entry = Entry::read_line(line.as_bytes()).unwrap();
            let mut written = Vec::new();
            entry.write_line(&mut written);
            assert_eq!(String::from_utf8(written).unwrap(), format!("{line}\n"));
        }
        for wrong in [
            r#"{"kind":"directory","path":"a","mode":"755"}"#,
            r#"{"path":"a","kind":"directory","mode":"755"} "#,
            r#"{"path":"\u0061","kind":"directory","mode":"755"}"#,
            r#"{"path":"a","kind":"directory","mode":"0755"}"#,
            r#"{"path":"a","kind":"directory","mode":"1755"}"#,
            r#"{"path":"a","kind":"directory","mode":"+55"}"#,
            r#"{"path":"a","kind":"directory","mode":"755","contents":[]}"#,
            r#"{"path":"a","kind":"directory","mode":"755","target":null}"#,
            r#"{"path":"a","kind":"directory","mode":"755","x":1}"#,
            r#"{"path":"a","kind":"file","mode":"644"}"#,
            r#"{"path":"a","kind":"file","mode":"644","mtime":null,"contents":[]}"#,
            r#"{"path":"a","kind":"file","mode":"644","mtime":-1,"contents":[]}"#,
            r#"{"path":"a","kind":"file","mode":"644","mtime":8589934592,"contents":[]}"#,
            r#"{"path":"a","kind":"file","mode":"644","mtime":1.0,"contents":[]}"#,
            r#"{"path":"a","kind":"file","mode":"644","mtime":01,"contents":[]}"#,
            r#"{"path":"a","kind":"file","mode":"644","contents":[],"mtime":1}"#,
            r#"{"path":"a","kind":"directory","mode":"755","mtime":1}"#,
            r#"{"path":"a","kind":"link","mtime":1,"target":"b"}"#,
            r#"{"path":"a","kind":"device","mode":"644"}"#,
            r#"{"path":"a","kind":"link","target":""}"#,
            r#"{"path":"a","kind":"link","target":"%00"}"#,
            r#"{"path":"../a","kind":"link","target":"b"}"#,
        ] {
            assert!(Entry::read_line(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_whose_contents_do_not_add_up_is_refused_by_its_path() {
        let hash = "a".repeat(64);
        for contents in [
            format!(r#"[["{hash}",0]]"#),
            format!(r#"[["{hash}",4194305]]"#),
            format!(r#"[["{hash}",1],["{hash}",1]]"#),
            format!(r#"[["{hash}",4194304],["{hash}",1],["{hash}",1]]"#),
            r#"[["x",1]]"#.to_owned(),
        ] {
            let line = format!(r#"{{"path":"a","kind":"file","mode":"644","contents":{contents}}}"#);
            assert!(Entry::read_line(line.as_bytes()).is_err(), "{contents}");
        }
    }
}
