//! Names what a task has written to its working folder and nothing keeps: the folder is deleted with the node.

use task::TaskDefinition;

use super::quoting::{pattern, quote};
use super::working_dir::WORKING_DIR;

/// Opens a pipe before the script of the node starts, which inherits it.
const BEGIN: &str = r#"exec 9<> <(:)
"#;

/// Tells process 1 from the script when all files are in place. The pipe needs no directory to write to, and a script that
/// fails before leaves nothing in it. Before bash 5, the time is that of the next second.
pub(super) const MARK: &str =
    "{ echo \"${EPOCHREALTIME:-$(($(printf '%(%s)T' -1) + 1))}\" >&9; exec 9>&-; } 2>/dev/null\n";

/// Finds files and links whose status has changed since then: the times of contents are those that `cp -p`, `tar`, or `touch`
/// give them. The `find` of busybox cannot compare with a time of seconds, but `stat` tells it. Does nothing if the image
/// lacks a program for it. Volumes and what programs write for themselves are left out. A large folder must not hold up the
/// end of the node.
///
/// Only the first names are remembered. A line may be a part of a name, whose control characters are not for a terminal.
const UNKEPT: &str = r#"unkept() {
  local file name names count mark seconds=
  [ "$NODE_RANK" = 0 ] && [ -z "$k8s_cli_term" ] && IFS= read -rt 0.05 -u 9 mark && command -v timeout && command -v find || return
  # Some locales write a comma.
  mark=${mark/,/.}
  local -a since=(-newerct "@$mark" -print)
  find -H "$1" -prune "${since[@]}" || { seconds=${mark%.*}; since=(-exec stat -c '%Z %n' {} +); }
  timeout 5 find -H "$1" -xdev \( -name __pycache__ -o -name .git -o -name .venv -o -name node_modules "${@:2}" \) -prune -o \( -type f -o -type l \) "${since[@]}" |
    {
      names= count=0
      while [ "$count" -lt 100 ] && IFS= read -r file; do
        if [ -n "$seconds" ]; then
          case ${file%% *} in '' | *[!0-9]*) continue ;; esac
          [ "${file%% *}" -gt "$seconds" ] || continue
          file=${file#* }
        fi
        name=${file#"$1"/}
        case $name in */*) name=${name%%/*}/ ;; esac
        name="\`${name//[[:cntrl:]]/?}\`"
        case $names in *"$name"*) continue ;; esac
        [ $((count += 1)) -gt 5 ] || names+="${names:+, }$name"
      done
      [ "$count" -le 5 ] || names+=" and more"
      [ "$count" = 0 ] ||
        echo "[k8s-cli: written to the working folder and not kept: $names; to keep files, use \`outputs\` or a volume]" >&3
    }
} >/dev/null
"#;

/// What process 1 does before it starts the script.
pub(super) fn begin(definition: &TaskDefinition) -> &'static str {
    match definition.has_working_dir() {
        true => BEGIN,
        false => "",
    }
}

/// What it does when nothing else runs anymore. Outputs in the folder are kept.
pub(super) fn end(definition: &TaskDefinition) -> String {
    if !definition.has_working_dir() || has_all(definition) {
        return String::new();
    }
    let mut text = format!("{UNKEPT}unkept {WORKING_DIR}");
    let outputs = definition.outputs.iter().map(|output| {
        let path = output.path.strip_prefix("~/sky_workdir/").unwrap_or(&output.path);
        let path = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
        match path.starts_with(['/', '~', '$']) {
            true => path.to_owned(),
            false => format!("{WORKING_DIR}/{path}"),
        }
    });
    for path in outputs {
        text.push_str(&format!(" -o -path {}", quote(&pattern(&path))));
    }
    text.push('\n');
    text
}

/// Whether the whole folder is kept.
fn has_all(definition: &TaskDefinition) -> bool {
    let is_all = |path: &str| matches!(path.trim_end_matches('/'), "." | "~/sky_workdir" | WORKING_DIR);
    definition.outputs.iter().any(|output| is_all(&output.path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use serde_json::json;
    use task::TaskDefinition;

    use super::{BEGIN, MARK, UNKEPT, begin, end};
    use crate::manifest::process_one::init_script;

    /// Says what a script wrote to the folder of a node, with the programs in `bin` before others.
    fn said_with(bin: &Path, script: &str, more: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let end = format!("{UNKEPT}unkept {path} {more}\n");
        let init = format!("{BEGIN}{}", init_script("", &end));
        let output = Command::new("timeout")
            .args(["60", "/bin/bash", "-c", &init, "k8s-cli", "-c", script])
            .current_dir(folder.path())
            .env("NODE_RANK", "0")
            .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The last line of a node, with a file that was brought.
    fn said(run: &str, more: &str) -> String {
        let script = format!("echo >old; ln -s old link\nsleep 0.05\n{MARK}sleep 0.05\n{run}");
        said_with(Path::new("/nonexistent"), &script, more)
    }

    fn names(said: &str) -> Vec<&str> {
        let names = said.split_once("not kept: ").unwrap().1.split_once(';').unwrap().0;
        let mut names: Vec<&str> = names.split(", ").collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_was_written_is_named_and_what_was_there_is_not() {
        let run = "mkdir -p runs/deep out .git; for f in model.pt runs/deep/log runs/more out/x .git/y $'a\\nb'; do echo >\"$f\"; done";
        let said = said(run, "-o -path \"$PWD/out\"");
        // The second line of a name looks like a name.
        assert_eq!(names(&said), ["`a`", "`b`", "`model.pt`", "`runs/`"]);
    }

    #[test]
    fn what_was_copied_with_its_time_and_links_are_named() {
        let run = "touch -d '1 day ago' older; touch -d '1 day' later; cp -p older copy; ln -s old new";
        assert_eq!(names(&said(run, "")), ["`copy`", "`later`", "`new`", "`older`"]);
    }

    #[test]
    fn with_the_find_of_busybox_whole_seconds_are_compared() {
        let bin = tempfile::tempdir().unwrap();
        // It has no `-newerct`.
        let find = "#!/bin/bash\ncase \" $* \" in *' -newerct '*) exit 1 ;; esac\nPATH=${PATH#*:}\nexec find \"$@\"\n";
        fs::write(bin.path().join("find"), find).unwrap();
        fs::set_permissions(bin.path().join("find"), fs::Permissions::from_mode(0o755)).unwrap();
        let said_after = |seconds: i32| {
            let mark = format!("echo $(($(printf '%(%s)T' -1) - {seconds})) >&9; exec 9>&-");
            said_with(
                bin.path(),
                &format!("{mark}\necho >new; touch -d '1 day ago' older"),
                "",
            )
        };
        assert_eq!(names(&said_after(120)), ["`new`", "`older`"]);
        assert_eq!(said_after(-60), "");
    }

    #[test]
    fn nothing_is_said_if_nothing_was_written_or_the_files_did_not_come() {
        assert_eq!(said("cat old", ""), "");
        assert_eq!(said_with(Path::new("/nonexistent"), "echo >given", ""), "");
        let many = said("for n in {1..200}; do echo >$n; done", "");
        assert_eq!(
            (many.matches('`').count(), many.matches("and more").count()),
            (12, 1),
            "{many}"
        );
    }

    #[test]
    fn the_commands_of_a_task_do_not_have_the_pipe() {
        assert_eq!(said("[ ! -e /proc/self/fd/9 ] || echo >open", ""), "");
    }

    #[test]
    fn outputs_are_kept_and_a_task_without_a_folder_has_nothing_to_lose() {
        let parse = |body| TaskDefinition::parse(&body, 1).unwrap();
        let task = parse(
            json!({"run": "true", "files": {".": "0".repeat(64)}, "outputs": {"a": "./a b/", "c": "~/sky_workdir/c"}}),
        );
        assert!(end(&task).ends_with("unkept /sky_workdir -o -path '/sky_workdir/a b' -o -path '/sky_workdir/c'\n"));
        assert!(!begin(&task).is_empty());
        let outputs = |path: &str| json!({"run": "true", "files": {".": "0".repeat(64)}, "outputs": {"a": path}});
        assert!(end(&parse(outputs("[r]*"))).ends_with(
            r"-path '/sky_workdir/\[r]\*'
"
        ));
        assert_eq!(
            [".", "./", "~/sky_workdir/"].map(|path| end(&parse(outputs(path)))),
            ["", "", ""]
        );
        let task = parse(json!({"run": "true"}));
        assert_eq!((begin(&task), end(&task).as_str()), ("", ""));
    }
}
