//! Copies from a volume to this machine: a task that keeps what is at the path, and a download.

use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde_json::json;

use super::on_volume::{MOUNT_PATH, check_end, check_path, refused, task, to_stderr};
use super::short_task::{ShortTask, with_short_task};
use crate::args::VolumePath;
use crate::context::Context;
use crate::download::{download, find_outputs, summary};
use crate::error::{Error, Result};
use crate::output::{print_message, print_warning};

/// Enough to compute the hashes of a gigabyte in half a minute.
const CPUS: &str = "500m";

pub(super) async fn copy_out(context: &Context, source: &VolumePath, target: &str) -> Result<()> {
    if source.path.contains('$') {
        return Err(Error::Usage(format!(
            "`{source}` has a `$`, for which tasks fill in variables; copy the folder that it is in"
        )));
    }
    let Place { folder, name } = Place::of(target, source)?;
    let mut body = task("cp", &source.volume, CPUS, &check_path(source)?);
    let path = format!("{MOUNT_PATH}/{}", source.path);
    body["outputs"] = json!({ name.as_str(): path.trim_end_matches('/') });
    let copied = with_short_task(context, &body, async |task: &ShortTask<'_>| {
        check_end(&task.follow(to_stderr()?).await?, source)?;
        let outputs = find_outputs(context, &task.id).await?;
        let copied = download(context, (&task.id, &outputs), &folder, &source.to_string()).await?;
        // The server would keep them, at the user's expense, as long as the record of the task.
        let kept = format!("/tasks/{}/outputs", task.id);
        if let Err(error) = context.client.delete::<IgnoredAny>(&kept).await {
            print_warning(&format!(
                "the server still has a copy of `{source}`: {}",
                error.message()
            ));
        }
        Ok(copied)
    });
    let copied = copied.await.map_err(refused)?;
    let place = folder.join(&name);
    print_message(&format!("copied {} to `{}`", summary(&copied), place.display()));
    Ok(())
}

/// Where the copy is on this machine.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    /// A path names the copy itself. What ends with `/` is a folder in which it keeps its name, and so are `.` and `..`.
    fn of(target: &str, source: &VolumePath) -> Result<Self> {
        if target.is_empty() {
            return Err(Error::Usage(
                "the path of the copy is empty; use `.` for the current folder".to_owned(),
            ));
        }
        let path = Path::new(target);
        Ok(match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if !is_folder(target) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                Self {
                    folder: parent.unwrap_or(Path::new(".")).to_owned(),
                    name: name.to_owned(),
                }
            }
            _ => Self {
                folder: path.to_owned(),
                name: source.name().to_owned(),
            },
        })
    }
}

/// Whether a path can only be that of a folder.
fn is_folder(target: &str) -> bool {
    matches!(target.rsplit('/').next(), Some("" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_path_names_the_copy_unless_it_can_only_be_a_folder() {
        let place = |target: &str, source: &str| {
            let Place { folder, name } = Place::of(target, &source.parse().unwrap()).unwrap();
            format!("{} {name}", folder.display())
        };
        for (target, source, expected) in [
            ("copy", "data:/a/b", ". copy"),
            ("x/copy", "data:/a/b", "x copy"),
            ("/copy", "data:/a/b", "/ copy"),
            ("x/a.", "data:/a/b", "x a."),
            ("x/", "data:/a/b", "x/ b"),
            (".", "data:/a/b", ". b"),
            ("x/..", "data:/a/b", "x/.. b"),
            ("/", "data:/a/b", "/ b"),
            ("./", "data:", "./ data"),
        ] {
            assert_eq!(place(target, source), expected, "{target} {source}");
        }
        assert!(Place::of("", &"data:/a".parse().unwrap()).is_err());
    }
}
