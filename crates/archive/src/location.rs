//! Where the archive is.

use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::error::Error;

/// Where the archive is: a folder, or a bucket of an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder(PathBuf),
    Bucket(Url),
    Memory,
}

/// Why a text is not the location of an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid location `{text}`; expected a URL, e.g., `file:///var/lib/k8s-cli` or `s3://bucket/prefix`")]
pub struct InvalidLocation {
    text: String,
}

impl Location {
    /// A folder on this machine, or a mounted volume.
    #[must_use]
    pub fn folder(path: PathBuf) -> Self {
        Self(Kind::Folder(path))
    }

    /// The memory of this process, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self(Kind::Memory)
    }

    /// The folder, if it is one.
    pub(crate) fn path(&self) -> Option<&PathBuf> {
        match &self.0 {
            Kind::Folder(path) => Some(path),
            Kind::Bucket(_) | Kind::Memory => None,
        }
    }

    /// Opens the object store. Keys, endpoint, and region of a bucket come from the usual environment variables of its
    /// provider, e.g., `AWS_ACCESS_KEY_ID` and `AWS_ENDPOINT`.
    pub(crate) fn open(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        match &self.0 {
            Kind::Memory => Ok(Arc::new(InMemory::new())),
            Kind::Folder(path) => {
                let mut dir = std::fs::DirBuilder::new();
                // Logs are nobody else's business.
                dir.recursive(true).mode(0o700);
                dir.create(path).map_err(|source| Error::Directory {
                    path: path.clone(),
                    source,
                })?;
                let store = LocalFileSystem::new_with_prefix(path).map_err(|source| self.unusable(source))?;
                // A record is the only trace of a task that is deleted right after it was written.
                Ok(Arc::new(store.with_fsync(true).with_automatic_cleanup(true)))
            }
            Kind::Bucket(url) => {
                let opened = object_store::parse_url_opts(url, std::env::vars());
                let (store, prefix) = opened.map_err(|source| self.unusable(source))?;
                Ok(Arc::new(PrefixStore::new(Arc::<dyn ObjectStore>::from(store), prefix)))
            }
        }
    }

    fn unusable(&self, source: object_store::Error) -> Error {
        Error::Open {
            url: self.to_string(),
            source,
        }
    }
}

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        let invalid = || InvalidLocation { text: text.to_owned() };
        let url = Url::parse(text).map_err(|_| invalid())?;
        match url.scheme() {
            "file" => Ok(Self::folder(url.to_file_path().map_err(|()| invalid())?)),
            "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" if url.host_str().is_some() => {
                Ok(Self(Kind::Bucket(url)))
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Folder(path) => write!(formatter, "file://{}", path.display()),
            Kind::Bucket(url) => write!(formatter, "{url}"),
            Kind::Memory => formatter.write_str("memory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn a_location_is_a_folder_or_a_bucket() {
        for text in [
            "file:///var/lib/archive",
            "s3://bucket/prefix",
            "gs://bucket",
            "az://container/x",
        ] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "/var/lib/archive",
            "file://host/x",
            "http://example.com",
            "s3:bucket",
            "memory",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }
}
