//! Who the person is: a flag, the saved name, or the name on this machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use task::UserName;

use crate::error::{Error, Result};
use crate::folders;

/// A name, and where it comes from.
#[derive(Debug, Clone)]
pub struct User {
    /// The exact name.
    pub name: UserName,
    /// For a person: `--user or K8S_CLI_USER`, a file, or this machine.
    pub source: String,
}

/// The file of `auth login`; the Python command line has the same.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    username: String,
}

impl User {
    /// The flag, else the saved name, else the name on this machine.
    ///
    /// # Errors
    /// The name is none, or the file cannot be read.
    pub fn find(flag: Option<&str>) -> Result<Self> {
        if let Some(name) = flag {
            return Self::new(name, "--user or K8S_CLI_USER".to_owned());
        }
        if let Some((name, path)) = saved()? {
            return Self::new(&name, path.display().to_string());
        }
        let name = ["USER", "LOGNAME"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
        let name = name.unwrap_or_else(system_name);
        Self::new(&name, "your name on this machine".to_owned())
    }

    fn new(name: &str, source: String) -> Result<Self> {
        let name = UserName::from_headers([name.as_bytes()])
            .map_err(|detail| Error::Usage(format!("`{name}` from {source} is no user name: {}", detail.msg)))?;
        Ok(Self { name, source })
    }
}

/// Remembers a name.
///
/// # Errors
/// The name is none, or the file cannot be written.
pub fn save(name: &str) -> Result<PathBuf> {
    let user = User::new(name, "the command line".to_owned())?;
    let path = folders::config()?.join("user.json");
    let saved = Saved {
        username: user.name.to_string(),
    };
    let text = serde_json::to_string(&saved).map_err(std::io::Error::from)?;
    let write = || {
        std::fs::create_dir_all(folders::config()?)?;
        // A name that is written half must not be read.
        let new = path.with_extension("json.new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &path)?;
        Ok::<(), Error>(())
    };
    match write() {
        Err(Error::Output(source)) => Err(Error::File {
            action: "write",
            path,
            source,
        }),
        Err(other) => Err(other),
        Ok(()) => Ok(path),
    }
}

/// Forgets the saved name; whether there was one.
///
/// # Errors
/// The file cannot be removed.
pub fn forget() -> Result<bool> {
    let path = folders::config()?.join("user.json");
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::File {
            action: "remove",
            path,
            source,
        }),
    }
}

/// Where no variable has the name, as in most containers.
fn system_name() -> String {
    let output = std::process::Command::new("id").arg("-un").output();
    let name = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}

fn saved() -> Result<Option<(String, PathBuf)>> {
    let path = folders::config()?.join("user.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::File {
                action: "read",
                path,
                source,
            });
        }
    };
    let saved: Saved = serde_json::from_str(&text).map_err(|error| {
        Error::Usage(format!(
            "`{}` is broken ({error}); write it anew with `k8s-cli auth login NAME`",
            path.display()
        ))
    })?;
    Ok(Some((saved.username, path)))
}
