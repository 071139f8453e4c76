//! The user name: from a flag, saved by `auth login`, or the login name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use task::UserName;

use crate::error::{Error, Result};
use crate::folders;

/// The user name and its source.
#[derive(Debug, Clone)]
pub struct User {
    pub name: UserName,
    /// Where the name comes from, for messages.
    pub source: String,
}

/// The file written by `auth login`. The Python CLI uses the same file and format.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    username: String,
}

impl User {
    /// Resolves the user name: the flag, then the saved name, then the login name.
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
        Self::new(&name, "your login name".to_owned())
    }

    fn new(name: &str, source: String) -> Result<Self> {
        let name = UserName::parse(name)
            .map_err(|error| Error::Usage(format!("invalid user name `{name}` from {source}: {error}")))?;
        Ok(Self { name, source })
    }
}

/// Saves the user name; returns the path of the file.
pub fn save(name: &str) -> Result<PathBuf> {
    let user = User::new(name, "the arguments".to_owned())?;
    let path = folders::config()?.join("user.json");
    let saved = Saved {
        username: user.name.to_string(),
    };
    let text = serde_json::to_string(&saved).map_err(std::io::Error::from)?;
    let write = || {
        std::fs::create_dir_all(folders::config()?)?;
        // Rename into place, so that another command never reads a partly written file.
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

/// Deletes the saved user name; returns whether there was one.
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

/// The login name from the system, for environments without USER and LOGNAME, e.g., containers.
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
            "invalid file `{}`: {error}; recreate it with `k8s-cli auth login NAME`",
            path.display()
        ))
    })?;
    Ok(Some((saved.username, path)))
}
