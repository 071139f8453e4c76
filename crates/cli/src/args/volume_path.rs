//! A path in a volume, as `VOLUME:PATH`.

use std::fmt;
use std::str::FromStr;

/// A path in a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumePath {
    /// The name or the ID of the volume.
    pub volume: String,
    /// The path from the root of the volume, without `.`, `..`, and needless slashes; empty for the root.
    pub path: String,
    /// Whether it names a folder in which something keeps its name: the root, or a path that ends with `/`.
    pub is_folder: bool,
}

impl VolumePath {
    /// Reads `VOLUME:PATH`. `None` if it is the path of something on this machine, which has a `/` before any `:`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        match text.split_once(':') {
            Some((volume, path)) if !volume.contains('/') => Self::new(volume, path).map(Some),
            _ => Ok(None),
        }
    }

    fn new(volume: &str, path: &str) -> Result<Self, String> {
        if volume.is_empty() {
            return Err("the name of the volume is missing; write, e.g., `my-data:/train`".to_owned());
        }
        if path.split('/').any(|part| part == "..") {
            return Err(format!(
                "`{path}` must not contain `..`; write the path from the root of the volume"
            ));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        Ok(Self {
            volume: volume.to_owned(),
            path: parts.join("/"),
            is_folder: parts.is_empty() || path.ends_with('/'),
        })
    }

    /// The path of something with this name in the folder.
    pub(crate) fn child(&self, name: &str) -> Self {
        let slash = if self.path.is_empty() { "" } else { "/" };
        Self {
            volume: self.volume.clone(),
            path: format!("{}{slash}{name}", self.path),
            is_folder: false,
        }
    }

    /// The name of what is there; that of the volume for its root.
    pub(crate) fn name(&self) -> &str {
        match self.path.rsplit('/').next() {
            Some("") | None => &self.volume,
            Some(name) => name,
        }
    }
}

/// Reads `VOLUME[:PATH]`, where nothing else can be meant.
impl FromStr for VolumePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Self::parse(text)? {
            Some(path) => Ok(path),
            None if text.contains('/') => Err("write the volume first, e.g., `my-data:/train`".to_owned()),
            None => Self::new(text, ""),
        }
    }
}

impl fmt::Display for VolumePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:/{}", self.volume, self.path)
    }
}

/// Where something is copied from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyPlace {
    /// A path on this machine, as it is written.
    Here(String),
    Volume(VolumePath),
}

impl FromStr for CopyPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = VolumePath::parse(text)?;
        Ok(path.map_or_else(|| Self::Here(text.to_owned()), Self::Volume))
    }
}

#[cfg(test)]
mod tests {
    use super::VolumePath;

    fn shown(path: &VolumePath) -> (String, bool) {
        (path.to_string(), path.is_folder)
    }

    #[test]
    fn a_volume_comes_before_the_first_colon_and_has_no_slash() {
        let read = |text: &str| VolumePath::parse(text).unwrap().map(|path| shown(&path));
        for (text, path, is_folder) in [
            ("data:", "data:/", true),
            ("data:/", "data:/", true),
            ("data:/a//./b", "data:/a/b", false),
            ("data:a/", "data:/a", true),
            ("data:/a:b", "data:/a:b", false),
            ("data:/-rf $x'", "data:/-rf $x'", false),
        ] {
            assert_eq!(read(text), Some((path.to_owned(), is_folder)), "{text}");
        }
        for text in ["data", "./data:x", "/data:x", ".", ""] {
            assert_eq!(read(text), None, "{text}");
        }
        for text in [":/a", "data:..", "data:/a/../b"] {
            assert!(VolumePath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_volume_alone_is_its_root() {
        let read = |text: &str| text.parse().map(|path| shown(&path));
        assert_eq!(read("data"), Ok(("data:/".to_owned(), true)));
        assert_eq!(read("data:a"), Ok(("data:/a".to_owned(), false)));
        assert!(read("data/a").is_err() && read("").is_err());
    }

    #[test]
    fn what_is_in_a_folder_keeps_its_name() {
        let path = |text: &str| VolumePath::parse(text).unwrap().unwrap();
        assert_eq!(path("data:").child("x"), path("data:/x"));
        assert_eq!(path("data:/a/").child("x"), path("data:/a/x"));
        assert_eq!((path("data:").name(), path("data:a/b/").name()), ("data", "b"));
    }
}
