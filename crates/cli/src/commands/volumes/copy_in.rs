//! Copies from this machine to a volume: an upload, and a task that unpacks it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::on_volume::{MOUNT_PATH, check_end, refused, task, to_stderr};
use super::short_task::with_short_task;
use crate::args::VolumePath;
use crate::client::patiently;
use crate::context::Context;
use crate::error::{Error, FileAction, Result};
use crate::output::{escape_line, print_message};
use crate::task_file::{LocalPart, LocalSource};
use crate::upload::{Known, Uploaded, Verbosity, are_files_gone, upload_part};

/// Enough to check the hashes of a gigabyte in half a minute.
const CPUS: &str = "500m";

/// A variable of the task that stands for `$` in a path, in which bash fills in variables.
const DOLLAR: &str = "K8S_CLI_DOLLAR";

pub(super) async fn copy_in(context: &Context, source: &str, target: &VolumePath) -> Result<()> {
    let path = Path::new(source)
        .canonicalize()
        .map_err(Error::file(FileAction::Read, Path::new(source)))?;
    let target = match target.is_folder {
        true => target.child(&name_of(source, &path)?),
        false => target.clone(),
    };
    let part = LocalPart {
        key: Vec::new(),
        written: escape_line(source),
        target: place(&target, path.is_dir()),
        source: LocalSource {
            file_name: (!path.is_dir()).then(|| target.name().to_owned()),
            path,
            everything: true,
        },
    };
    check_volume(context, &target.volume).await.map_err(refused)?;
    let copied = match try_copy(context, &part, &target, Known::Ask).await {
        // Files that no task refers to are deleted after a while, which may be now.
        Err(error) if are_files_gone(&error) => try_copy(context, &part, &target, Known::No).await,
        result => result,
    };
    let copied = copied.map_err(refused)?;
    print_message(&format!("copied {copied} to `{target}`"));
    Ok(())
}

/// Checks that there is such a volume, before an upload that may take long.
async fn check_volume(context: &Context, volume: &str) -> Result<()> {
    let body = task("cp", volume, CPUS, "true");
    let key = uuid::Uuid::new_v4().to_string();
    let check = async || context.client.submit("/tasks/submit?dry_run=true", &body, &key).await;
    patiently(async || context.with_server(check).await).await.map(drop)
}

async fn try_copy(context: &Context, part: &LocalPart, target: &VolumePath, known: Known) -> Result<Uploaded> {
    let uploaded = upload_part(context, part, Verbosity::Normal, known).await?;
    let body = body(part, target, &uploaded.id);
    let task = with_short_task(context, &body, async |task| task.follow(to_stderr()?).await);
    check_end(&task.await?, target)?;
    Ok(uploaded)
}

/// The task that unpacks a file set. It resumes, as every node does.
fn body(part: &LocalPart, target: &VolumePath, id: &str) -> Value {
    let mut body = task("cp", &target.volume, CPUS, "true");
    let set = match &part.source.file_name {
        Some(name) => format!("{id}/{name}"),
        None => id.to_owned(),
    };
    if part.target.contains('$') {
        body["envs"] = json!({ DOLLAR: "$" });
    }
    body["files"] = json!({ part.target.as_str(): set });
    body
}

/// The path for the task, in which bash fills in variables, except in the name of a file.
fn place(target: &VolumePath, is_folder: bool) -> String {
    let literal = |text: &str| text.replace('$', &format!("${{{DOLLAR}}}"));
    let path = &target.path;
    match path.rsplit_once('/') {
        _ if is_folder => format!("{MOUNT_PATH}/{}", literal(path)),
        Some((folder, name)) => format!("{MOUNT_PATH}/{}/{name}", literal(folder)),
        None => format!("{MOUNT_PATH}/{path}"),
    }
}

/// The name of what is copied, as it was written if it was: a link has its own.
fn name_of(source: &str, path: &Path) -> Result<String> {
    let written = PathBuf::from(source);
    let name = written.file_name().or(path.file_name());
    let name = name.and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        Error::Usage(format!(
            "`{}` has no name that a volume path can have; name the copy, e.g., `my-data:/copy`",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{name_of, place};

    fn placed(text: &str, is_folder: bool) -> String {
        place(&text.parse().unwrap(), is_folder)
    }

    #[test]
    fn a_dollar_stays_one_wherever_bash_would_fill_in_a_variable() {
        assert_eq!(placed("data:/a b/x", true), "/k8s-cli-volume/a b/x");
        assert_eq!(
            placed("data:/$a/$x", true),
            "/k8s-cli-volume/${K8S_CLI_DOLLAR}a/${K8S_CLI_DOLLAR}x"
        );
        // The name of a file is that in its file set.
        assert_eq!(placed("data:/$a/$x", false), "/k8s-cli-volume/${K8S_CLI_DOLLAR}a/$x");
        assert_eq!(placed("data:/$x", false), "/k8s-cli-volume/$x");
    }

    #[test]
    fn the_name_is_the_one_that_was_written() {
        let name = |source: &str| name_of(source, Path::new("/home/me/run-7")).unwrap();
        assert_eq!(
            (name("latest"), name("a/latest/")),
            ("latest".to_owned(), "latest".to_owned())
        );
        assert_eq!((name("."), name("..")), ("run-7".to_owned(), "run-7".to_owned()));
        assert!(name_of("/", Path::new("/")).is_err());
    }
}
