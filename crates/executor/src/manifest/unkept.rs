//! Names what a task has written to its working folder and nothing keeps: the folder is deleted with the node.

use task::TaskDefinition;
use task::definition::Target;

use super::quoting::quote;
use super::working_dir::WORKING_DIR;

/// Remembers when the node has started, as the time of a pipe that nobody writes to later. It has the same clock as the
/// files.
const BEGIN: &str = r#"exec {k8s_cli_start}<<<''
"#;

/// Remembers when the clone of a repository was complete, whose files are newer than the node.
pub(super) const AFTER_CLONE: &str = ": >/sky_workdir/.git/k8s-cli-cloned\n";

/// Finds files newer than the start of the node. Skips times in the future, because a user's clock may be ahead. Does
/// nothing if the image lacks a program for it. Volumes and what programs write for themselves are left out. A large
/// folder must not hold up the end of the node.
///
/// Only the first names are remembered. A line may be a part of a name, whose control characters are not for a terminal.
const UNKEPT: &str = r#"unkept() {
  [ "$NODE_RANK" = 0 ] && [ -z "$k8s_cli_term" ] && command -v timeout && command -v find || return
  exec {k8s_cli_now}<<<''
  local file name names count since=/proc/$$/fd/$k8s_cli_start
  [ ! -e "$1/.git/k8s-cli-cloned" ] || since=$1/.git/k8s-cli-cloned
  timeout 5 find -H "$1" -xdev \( -name __pycache__ -o -name .git -o -name .venv -o -name node_modules "${@:2}" \) -prune -o -type f -newer "$since" ! -newer "/proc/$$/fd/$k8s_cli_now" -print |
    {
      names= count=0
      while [ "$count" -lt 100 ] && IFS= read -r file; do
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

/// What process 1 does when the node starts.
pub(super) fn begin(definition: &TaskDefinition) -> &'static str {
    match definition.has_working_dir() {
        true => BEGIN,
        false => "",
    }
}

/// What it does when nothing else runs anymore. Outputs in the folder are kept, and copies are not what the task wrote.
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
    let copies = definition.copies.iter().filter_map(|copy| match &copy.target {
        Target::WorkingDir(below) if !below.is_empty() => Some(format!("{WORKING_DIR}/{below}")),
        Target::WorkingDir(_) | Target::Elsewhere(_) => None,
    });
    for path in outputs.chain(copies) {
        text.push_str(&format!(" -o -path {}", quote(&escaped(&path))));
    }
    text.push('\n');
    text
}

/// Whether the whole folder is kept, or all of it may be a copy.
fn has_all(definition: &TaskDefinition) -> bool {
    let is_all = |path: &str| matches!(path.trim_end_matches('/'), "." | "~/sky_workdir" | WORKING_DIR);
    let is_folder = |target: &Target| *target == Target::WorkingDir(String::new());
    definition.outputs.iter().any(|output| is_all(&output.path))
        || definition.copies.iter().any(|copy| is_folder(&copy.target))
}

/// A path as a pattern of `find` that matches nothing else.
fn escaped(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use serde_json::json;
    use task::TaskDefinition;

    use super::{UNKEPT, begin, end};
    use crate::manifest::process_one::init_script;

    /// The last line of a node whose working folder is elsewhere, with a file from before.
    fn said(run: &str, more: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("old"), "x").unwrap();
        let path = folder.path().to_str().unwrap();
        let end = format!("{UNKEPT}unkept {path} {more}\n");
        let output = Command::new("timeout")
            .args([
                "60",
                "/bin/bash",
                "-c",
                &init_script(super::BEGIN, &end),
                "k8s-cli",
                "-c",
                run,
            ])
            .current_dir(folder.path())
            .env("NODE_RANK", "0")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    fn what_was_written_is_named_and_what_was_there_is_not() {
        let run = "mkdir -p runs/deep out .git; for f in model.pt runs/deep/log runs/more out/x .git/y $'a\\nb'; do echo >\"$f\"; done";
        let said = said(run, "-o -path \"$PWD/out\"");
        let names = said.split_once("not kept: ").unwrap().1.split_once(';').unwrap().0;
        let mut names: Vec<&str> = names.split(", ").collect();
        names.sort_unstable();
        // The second line of a name looks like a name.
        assert_eq!(names, ["`a`", "`b`", "`model.pt`", "`runs/`"]);
    }

    #[test]
    fn nothing_is_said_if_nothing_was_written() {
        assert_eq!(
            said("cat old; touch -d '1 day ago' older; touch -d '1 day' later", ""),
            ""
        );
        let many = said("for n in {1..200}; do echo >$n; done", "");
        assert_eq!(
            (many.matches('`').count(), many.matches("and more").count()),
            (12, 1),
            "{many}"
        );
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
