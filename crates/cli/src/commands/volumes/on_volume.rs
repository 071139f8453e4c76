//! What the short-lived tasks of `k8s-cli volumes` have in common: one volume, and a path in it.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};
use task::TaskState;
use task::wire::TaskStatus;

use super::short_task::{failure, reason_of};
use crate::args::VolumePath;
use crate::error::{Error, Result};
use crate::field_error::FieldError;
use crate::output::{EscapingWriter, raw_stderr};

/// Where the volume is mounted. No image has it.
pub(super) const MOUNT_PATH: &str = "/k8s-cli-volume";

/// The exit code of a script whose path does not exist: `EX_NOINPUT` of `sysexits.h`. `ls` and `du` have smaller ones.
const NO_SUCH_PATH: i32 = 66;

/// A task that mounts the volume at [`MOUNT_PATH`].
pub(super) fn task(command: &str, volume: &str, cpus: &str, run: &str) -> Value {
    let id = uuid::Uuid::new_v4().simple().to_string();
    json!({
        "name": format!("volumes-{command}-{}", &id[..8]),
        "run": run,
        "resources": {"cpus": cpus},
        "volumes": {MOUNT_PATH: volume},
    })
}

/// A script that changes to the root of the volume, and ends if the path is not there. The path is then `$path`.
pub(super) fn check_path(path: &VolumePath) -> Result<String> {
    let path = if path.path.is_empty() { "." } else { &path.path };
    let quoted =
        shlex::try_quote(path).map_err(|_| Error::Usage("a path must not contain NUL characters".to_owned()))?;
    Ok(format!(
        "cd {MOUNT_PATH} || exit\npath={quoted}\n[[ -e $path || -L $path ]] || exit {NO_SUCH_PATH}\n"
    ))
}

/// Fails if the task has not succeeded.
pub(super) fn check_end(task: &TaskStatus, path: &VolumePath) -> Result<()> {
    if task.status == TaskState::Completed {
        return Ok(());
    }
    let code = task.metadata.nodes.first().and_then(|node| node.exit_code);
    if code == Some(NO_SUCH_PATH) {
        let VolumePath { volume, path, .. } = path;
        return Err(Error::NotFound(format!("volume `{volume}` has no `{path}`").into()));
    }
    Err(failure(match reason_of(task) {
        reason if reason.is_empty() => "the task failed".to_owned(),
        reason => reason,
    }))
}

/// Where the log of a copy goes: it is no result, but says what takes long, and what is left out.
pub(super) fn to_stderr() -> Result<Box<dyn Write>> {
    let stderr = raw_stderr()?;
    Ok(match std::io::stderr().is_terminal() {
        true => Box::new(EscapingWriter::new(stderr)),
        false => Box::new(stderr),
    })
}

/// What the server rejects of the task, in the words of the command.
pub(super) fn refused(error: Error) -> Error {
    let Error::Invalid { errors, request_id } = error else {
        return error;
    };
    let is_of_volume = |error: &FieldError| error.path().first().is_some_and(|key| key == "volumes");
    let messages: Vec<String> = errors.iter().map(FieldError::message).collect();
    let text = messages.join("; ");
    if errors.iter().any(is_of_volume) && text.contains("not found") {
        // What a task lacks is created, and what a copy lacks was probably mistyped.
        let text = text.split_once("; create it").map_or(text.as_str(), |(text, _)| text);
        return Error::NotFound(format!("{text}; list yours with `k8s-cli volumes list`").into());
    }
    match errors.iter().all(is_of_volume) {
        true => Error::Usage(text),
        false => Error::Invalid { errors, request_id },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::{MOUNT_PATH, check_path};
    use crate::args::VolumePath;

    /// What a script with this path prints in a folder that has some files, and its exit code.
    fn run(text: &str) -> (String, i32) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a b")).unwrap();
        for name in ["a b/x", "-rf", "$HOME", "'\"\n`id`", "(", "*"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        let path: VolumePath = text.parse().unwrap();
        let script = check_path(&path).unwrap() + "printf '%s|' \"$path\"; exec ls -d -- \"$path\"";
        let script = script.replace(MOUNT_PATH, folder.path().to_str().unwrap());
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        for (text, path) in [
            ("data", "."),
            ("data:/a b/x", "a b/x"),
            ("data:-rf", "-rf"),
            ("data:$HOME", "$HOME"),
            ("data:'\"\n`id`", "'\"\n`id`"),
            ("data:(", "("),
            ("data:*", "*"),
            ("data:/dangling", "dangling"),
        ] {
            assert_eq!(run(text), (format!("{path}|{path}\n"), 0));
        }
    }

    #[test]
    fn a_path_that_does_not_exist_has_an_exit_code_of_its_own() {
        for text in ["data:/a", "data:/a b/y", "data:/-rf/x", "data:$USER"] {
            assert_eq!(run(text), (String::new(), 66), "{text}");
        }
    }
}
