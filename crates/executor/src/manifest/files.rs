//! The files of a task in its pods: the volumes that they need, and the part of the script that brings them.

use task::TaskDefinition;
use task::definition::{FileMount, Target, Workdir};

use super::copies::copy;
use super::fetch;
use super::git_clone::clone;
use super::program;
use super::quoting::{pattern, quote, quote_path};
use super::unkept;
use super::working_dir::{LINKS_HOME, WORKING_DIR};
use crate::delivery::{Delivery, PackedFiles, PackedSet};
use crate::kubernetes::{ConfigMapVolumeSource, EmptyDirVolumeSource, Volume, VolumeMount};
use crate::settings::HelperProgram;

/// The key of a ConfigMap with a part.
pub(crate) const PART_KEY: &str = "part";

/// The directory with the parts: `SET/PART/part`, with numbers that sort as text.
const PARTS_DIR: &str = "/etc/k8s-cli-files";

/// The volume that the working folder is.
const WORKING_DIR_VOLUME: &str = "k8s-cli-workdir";

/// Unpacks the parts in directory `$1` to the directory `$2`: everything, or the file `$3`. `$4` says that its name is
/// another one as a pattern.
///
/// All modes are those of the archive: busybox's tar has no option to ignore the mask. A file from a machine whose clock is
/// ahead must not trigger GNU tar's warning. The name of a file may have a backslash, which GNU tar would take for the
/// beginning of a special character; other tars take a name for a pattern, and get no name then: the CLI sends such a file
/// alone.
const UNPACK: &str = r#"k8s_cli_unpack() {
  local why name=$3
  [ -z "$4" ] || case $(tar --help 2>&1) in *BusyBox* | *bsdtar*) name= ;; esac
  if ! command -v tar >/dev/null; then
    why="\`tar\` is not in the image; install it, or use another image"
  elif mkdir -p -- "$2" && cat "$1"/*/part | (umask 0; cd -- "$2" && TAR_OPTIONS='--warning=no-timestamp --no-unquote' tar xzf - ${name:+-- "$name"}); then
    return
  else
    why="see the log of the node"
  fi
  why="cannot unpack the files of the task to $2: $why"
  echo "$why" >&2
  echo "$why" >>/dev/termination-log
  exit 1
}
"#;

/// Adds the volumes of the files of a task, and mounts them.
pub(super) fn add_volumes(
    definition: &TaskDefinition,
    delivery: &Delivery,
    files_owner: &str,
    program: Option<&HelperProgram>,
    volumes: &mut Vec<Volume>,
    mounts: &mut Vec<VolumeMount>,
) {
    if definition.has_working_dir() {
        volumes.push(Volume {
            name: WORKING_DIR_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        });
        mounts.push(VolumeMount {
            name: WORKING_DIR_VOLUME.to_owned(),
            mount_path: WORKING_DIR.to_owned(),
            ..VolumeMount::default()
        });
    }
    if let Some(program) = program {
        program::add_volume(program, volumes, mounts);
    }
    match delivery {
        Delivery::Packed(files) => add_parts(files, files_owner, volumes, mounts),
        Delivery::Fetched(files) => fetch::add_volumes(files, volumes, mounts),
    }
}

fn add_parts(files: &[PackedFiles], files_owner: &str, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    for (index, files) in files.iter().enumerate() {
        let object = files.set.object_name(files_owner);
        for part in 0..files.set.parts.len() {
            let name = format!("k8s-cli-files-{index}-{part}");
            volumes.push(Volume {
                name: name.clone(),
                config_map: Some(ConfigMapVolumeSource {
                    name: PackedSet::part_name(&object, part),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            });
            mounts.push(VolumeMount {
                name,
                mount_path: format!("{}/{part:04}", parts_dir(index)),
                read_only: Some(true),
                ..VolumeMount::default()
            });
        }
    }
}

/// The lines that bring the files of a task: its repository, and then what is unpacked, fetched, or copied, which may be in
/// it.
pub(super) fn bring(definition: &TaskDefinition, delivery: &Delivery) -> String {
    let has_files = !definition.files.is_empty();
    let mut text = match delivery {
        _ if !has_files => "",
        Delivery::Packed(_) => UNPACK,
        Delivery::Fetched(_) => fetch::FETCH,
    }
    .to_owned();
    if definition.has_working_dir() {
        // What is already there is the image's.
        text.push_str(&format!(
            "[ -z \"${LINKS_HOME}\" ] || [ -e ~/sky_workdir ] || ln -s {WORKING_DIR} ~/sky_workdir 2>/dev/null\n"
        ));
    }
    if let Some(repository) = definition.workdir.as_ref().and_then(Workdir::repository) {
        text.push_str(&clone(repository));
    }
    if has_files {
        text.push_str(&unpack(definition, delivery));
    }
    text.push_str(fetch::forget(delivery));
    text.push_str(&copy(definition));
    if definition.has_working_dir() {
        text.push_str(unkept::MARK);
    }
    text
}

fn unpack(definition: &TaskDefinition, delivery: &Delivery) -> String {
    let mut text = String::new();
    for (index, mount) in definition.files.iter().enumerate() {
        let (directory, file) = place(mount);
        let file = file.map(|file| file_arguments(&file)).unwrap_or_default();
        let source = match delivery {
            Delivery::Fetched(_) => mount.files.to_string(),
            Delivery::Packed(_) => parts_dir(index),
        };
        text.push_str(&format!("k8s_cli_unpack {source} {directory}{file}\n"));
    }
    text.push_str("unset -f k8s_cli_unpack\n");
    text
}

fn file_arguments(file: &str) -> String {
    match pattern(file) == file {
        true => format!(" {}", quote(file)),
        false => format!(" {} odd", quote(file)),
    }
}

fn parts_dir(index: usize) -> String {
    format!("{PARTS_DIR}/{index:04}")
}

/// The directory to unpack to, quoted for bash, and the file to unpack, if it is not everything.
fn place(mount: &FileMount) -> (String, Option<String>) {
    let path = match &mount.target {
        Target::WorkingDir(below) if below.is_empty() => WORKING_DIR.to_owned(),
        Target::WorkingDir(below) => format!("{WORKING_DIR}/{below}"),
        Target::Elsewhere(path) => path.clone(),
    };
    if !mount.is_file {
        return (quote_path(&path), None);
    }
    match path.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), Some(name.to_owned())),
        Some((directory, name)) => (quote_path(directory), Some(name.to_owned())),
        None => (".".to_owned(), Some(path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::{UNPACK, file_arguments};

    /// Packs a file, and unpacks it with the programs in `bin` before others.
    fn unpack(name: &str, bin: &Path) {
        let dir = tempfile::tempdir().unwrap();
        let path = |below: &str| dir.path().join(below);
        for folder in ["from", "parts/0000", "to"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("from").join(name), "x").unwrap();
        let mut tar = Command::new("tar");
        tar.arg("czf")
            .arg(path("parts/0000/part"))
            .arg("--no-unquote")
            .arg("-C")
            .arg(path("from"));
        assert!(tar.args(["--", name]).status().unwrap().success());
        let script = format!("{UNPACK}k8s_cli_unpack parts to{}", file_arguments(name));
        let output = Command::new("/bin/bash")
            .args(["-c", &script])
            .current_dir(dir.path())
            .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{name} {output:?}");
        let unpacked = fs::read_dir(path("to")).unwrap().map(|item| item.unwrap().file_name());
        assert_eq!(unpacked.collect::<Vec<_>>(), [name]);
    }

    #[test]
    fn a_file_is_unpacked_whatever_its_name_is() {
        let bin = tempfile::tempdir().unwrap();
        let busybox = Path::new("/usr/bin/busybox");
        if busybox.exists() {
            std::os::unix::fs::symlink(busybox, bin.path().join("tar")).unwrap();
        }
        for name in [r"conf\tx.txt", "w[1]*?.txt", "it's", "-x"] {
            for bin in [Path::new("/nonexistent"), bin.path()] {
                unpack(name, bin);
            }
        }
    }
}
