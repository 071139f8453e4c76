//! The user name: from a flag, saved by `auth login`, or the login name.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use task::UserName;

use crate::dirs;
use crate::error::{Error, FileAction, Result};

/// The user name and its source.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub name: UserName,
    /// Where the name comes from, for messages.
    pub source: String,
}

/// The file written by `auth login`. The Python CLI uses the same file and format.
#[derive(Debug, Serialize, Deserialize)]
struct UserFile {
    username: String,
}

impl User {
    /// Resolves the user name: the flag, then the saved name, then the login name.
    pub(crate) fn resolve(flag: Option<&str>) -> Result<Self> {
        if let Some(name) = flag {
            return Self::new(name, "--user or K8S_CLI_USER".to_owned());
        }
        if let Some((name, path)) = read_saved_name()? {
            return Self::new(&name, path.display().to_string());
        }
        let name = ["USER", "LOGNAME"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
        let name = name.unwrap_or_else(login_name);
        Self::new(&name, "your login name".to_owned())
    }

    fn new(name: &str, source: String) -> Result<Self> {
        let name = UserName::parse(name)
            .map_err(|error| Error::Usage(format!("invalid user name `{name}` from {source}: {error}")))?;
        Ok(Self { name, source })
    }
}

/// Saves the user name; returns the path of the file.
pub(crate) fn save_name(name: &str) -> Result<PathBuf> {
    let user = User::new(name, "the arguments".to_owned())?;
    let path = dirs::config()?.join("user.json");
    let file = UserFile {
        username: user.name.to_string(),
    };
    let text = serde_json::to_string(&file).map_err(std::io::Error::from)?;
    let dir = dirs::config()?;
    let write = || {
        std::fs::create_dir_all(dir)?;
        // Rename into place, so that another command never reads a partly written file.
        let new = path.with_extension("json.new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &path)
    };
    write().map_err(Error::file(FileAction::Write, &path))?;
    Ok(path)
}

/// Deletes the saved user name; returns whether there was one.
pub(crate) fn delete_saved_name() -> Result<bool> {
    let path = dirs::config()?.join("user.json");
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file(FileAction::Remove, &path)(error)),
    }
}

/// The login name from the system, for environments without USER and LOGNAME, e.g., containers.
fn login_name() -> String {
    let output = std::process::Command::new("id").arg("-un").output();
    let name = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}

fn read_saved_name() -> Result<Option<(String, PathBuf)>> {
    let path = dirs::config()?.join("user.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file(FileAction::Read, &path)(error)),
    };
    let file: UserFile = serde_json::from_str(&text).map_err(|error| {
        Error::Usage(format!(
            "invalid file `{}`: {error}; recreate it with `k8s-cli auth login NAME`",
            path.display()
        ))
    })?;
    Ok(Some((file.username, path)))
}
