//! The bash script that a node runs.

use task::TaskDefinition;
use task::definition::MAX_ARGUMENT_BYTES;

/// The most bytes of variables, and of a script, that are copied into each Job of a gang. Larger ones are stored once,
/// because a thousand copies of a megabyte would fill etcd.
pub(crate) const MAX_COPIED_BYTES: usize = 4096;

/// Where a script that is too long for an argument is mounted.
pub const SCRIPT_DIR: &str = "/etc/k8s-cli";
/// The file name of the script, and its key in the owner of the task.
pub const SCRIPT_KEY: &str = "script";

/// The directory with the gate files of a node in a gang.
pub(crate) const GANG_DIR: &str = "/etc/k8s-cli-gang";
/// The file in [`GANG_DIR`] that opens the start gate; it contains the addresses of all nodes.
pub(crate) const NODE_IPS_FILE: &str = "node-ips";
/// The file in [`GANG_DIR`] that opens the run gate.
pub(crate) const RUN_FILE: &str = "run";
/// The directory in which a node records that its setup has ended.
pub(crate) const STATE_DIR: &str = "/etc/k8s-cli-state";
/// The file that records it.
pub(crate) const SETUP_DONE: &str = "/etc/k8s-cli-state/setup-done";

/// Reports a failed setup as the termination message of the container, even if the setup ends the shell itself
/// (`exit 3`, `set -e`).
const SETUP_FAILED: &str = r#"k8s_cli_setup() { [ "$1" = 0 ] || echo "setup failed with exit code $1" >/dev/termination-log; }
trap 'k8s_cli_setup $?' EXIT
"#;

/// Removes the trap, unless the setup has replaced it with its own for the end of the whole script.
const SETUP_SUCCEEDED: &str = r#"case $(trap -p EXIT) in *k8s_cli_setup*) trap - EXIT ;; esac
unset -f k8s_cli_setup
"#;

/// The script of a node, and how it reaches bash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// As an argument.
    Argument(String),
    /// As a mounted file, because Linux limits the length of an argument, or to avoid a copy in the Job of every node.
    File(String),
}

/// Builds the script of a task's nodes: change to the working directory, run the setup, then `run`, all in one shell.
///
/// The setup is passed to `eval` as a string, so that an unclosed quote in it cannot swallow `run`, and `set -e` works
/// in it. If it fails, the node fails and reports this as its termination message. The nodes of a gang wait before the
/// setup until all of them run, and before `run` until the setup of all has ended.
#[must_use]
pub fn script(definition: &TaskDefinition) -> Script {
    let mut text = String::new();
    let is_gang = definition.num_nodes > 1;
    if is_gang {
        text.push_str(&wait_for_start());
    }
    if let Some(workdir) = &definition.workdir {
        text.push_str(&format!("cd {} || exit\n", quote_path(workdir)));
    }
    if let Some(setup) = &definition.setup {
        text.push_str(SETUP_FAILED);
        text.push_str(&format!("eval {}\ncase $? in 0) ;; *) exit ;; esac\n", quote(setup)));
        text.push_str(SETUP_SUCCEEDED);
        if is_gang {
            text.push_str(&format!(": >{SETUP_DONE}\nk8s_cli_wait {GANG_DIR}/{RUN_FILE}\n"));
        }
    }
    if is_gang {
        text.push_str("unset -f k8s_cli_wait\n");
    }
    text.push_str(&definition.run);
    let limit = if is_gang { MAX_COPIED_BYTES } else { MAX_ARGUMENT_BYTES };
    if text.len() > limit {
        Script::File(text)
    } else {
        Script::Argument(text)
    }
}

/// The beginning of a gang's script: waits at the start gate and exports the addresses.
///
/// Shell options that the user's setup sets (`set -e`, `set -x`) are off while the script waits. To pause, bash reads
/// with a timeout from a pipe that nobody writes to: an image may lack `sleep`.
///
/// The variables are SkyPilot's (<https://docs.skypilot.co/en/latest/running-jobs/environment-variables.html>), and
/// those of `torch.distributed` unless the user has set them.
fn wait_for_start() -> String {
    format!(
        r#"k8s_cli_wait() {{
  local - pipe
  {{ set +exu; }} 2>/dev/null
  exec {{pipe}}<> <(:)
  until [ -s "$1" ]; do read -rt 0.05 -u "$pipe"; done
  exec {{pipe}}>&-
}}
k8s_cli_wait {GANG_DIR}/{NODE_IPS_FILE}
SKYPILOT_NODE_IPS=$(<{GANG_DIR}/{NODE_IPS_FILE})
SKYPILOT_SETUP_NODE_IPS=$SKYPILOT_NODE_IPS
MASTER_ADDR=${{MASTER_ADDR-${{SKYPILOT_NODE_IPS%%$'\n'*}}}}
MASTER_PORT=${{MASTER_PORT-29500}}
WORLD_SIZE=${{WORLD_SIZE-$NUM_NODES}}
RANK=${{RANK-$NODE_RANK}}
export SKYPILOT_NODE_IPS SKYPILOT_SETUP_NODE_IPS MASTER_ADDR MASTER_PORT WORLD_SIZE RANK
"#
    )
}

/// Quotes a path so that bash expands `~` and variables but keeps spaces.
fn quote_path(path: &str) -> String {
    // Keep the slash outside of the quotes: bash does not expand `~"/code"`.
    let (home, rest) = match path.strip_prefix('~') {
        Some("") => return "~".to_owned(),
        Some(rest) if rest.starts_with('/') => ("~/", rest.trim_start_matches('/')),
        _ => ("", path),
    };
    let mut quoted = String::new();
    for character in rest.chars() {
        if matches!(character, '"' | '\\' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    // `cd` would take a path with a leading dash for an option.
    let here = if home.is_empty() && rest.starts_with('-') {
        "./"
    } else {
        ""
    };
    format!("{home}\"{here}{quoted}\"")
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Child, Command, Output, Stdio};

    use serde_json::{Value, json};
    use task::TaskDefinition;

    use super::{Script, script};
    use crate::manifest::init_script::INIT;

    fn run(definition: &Value) -> Output {
        let task = TaskDefinition::parse(definition, 1).unwrap();
        let Script::Argument(text) = script(&task) else {
            panic!("a short script")
        };
        Command::new("/bin/bash")
            .args(["-c", INIT, "k8s-cli", "-c", &text])
            .output()
            .unwrap()
    }

    fn prints(definition: &Value, expected: &str) {
        let output = run(definition);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            expected,
            "{definition} {output:?}"
        );
    }

    #[test]
    fn run_alone_is_the_whole_script() {
        let task = TaskDefinition::parse(&json!({"run": "echo $$"}), 1).unwrap();
        assert_eq!(script(&task), Script::Argument("echo $$".to_owned()));
    }

    #[test]
    fn what_setup_exports_is_seen_in_run() {
        prints(&json!({"setup": "A='it''s'; export A", "run": "echo $A"}), "its\n");
    }

    #[test]
    fn a_failing_setup_ends_the_node_with_its_code() {
        let output = run(&json!({"setup": "echo before; (exit 3)", "run": "echo never"}));
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"before\n");
    }

    #[test]
    fn set_e_works_in_setup() {
        assert_eq!(
            run(&json!({"setup": "set -e\nfalse\ntrue", "run": "echo never"})).stdout,
            b""
        );
    }

    #[test]
    fn a_setup_that_leaves_something_open_does_not_swallow_run() {
        prints(&json!({"setup": "cat >/dev/null <<END", "run": "echo run"}), "run\n");
        assert_ne!(
            run(&json!({"setup": "echo 'open", "run": "echo never"})).status.code(),
            Some(0)
        );
    }

    #[test]
    fn a_setup_that_ends_the_shell_itself_has_failed_too() {
        let message = "/dev/termination-log";
        for setup in ["false", "exit 3", "set -e; false; true", "trap 'echo mine' EXIT; false"] {
            let task = TaskDefinition::parse(&json!({"setup": setup, "run": "echo ran"}), 1).unwrap();
            let Script::Argument(text) = script(&task) else {
                panic!("a short script")
            };
            let text = text.replace(message, "/dev/stderr");
            let output = Command::new("/bin/bash").args(["-c", &text]).output().unwrap();
            assert!(
                !output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("ran"),
                "{setup}"
            );
            let own_trap = setup.starts_with("trap");
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                own_trap || told.starts_with("setup failed with exit code "),
                "{setup}: {told}"
            );
        }
        prints(
            &json!({"setup": "trap 'echo bye' EXIT", "run": "echo ran"}),
            "ran\nbye\n",
        );
        let run_fails = run(&json!({"setup": "true", "run": "exit 4"}));
        assert_eq!((run_fails.status.code(), run_fails.stderr), (Some(4), Vec::new()));
    }

    #[test]
    fn a_folder_with_spaces_or_variables_is_entered() {
        prints(&json!({"setup": "mkdir -p '/tmp/k8s-cli test'", "run": "true"}), "");
        prints(
            &json!({"workdir": "/tmp/k8s-cli test", "run": "pwd"}),
            "/tmp/k8s-cli test\n",
        );
        prints(&json!({"workdir": "$PWD/..", "run": "[ -d . ] && echo in"}), "in\n");
        prints(
            &json!({"workdir": "~", "run": "[ \"$PWD\" = ~ ] && echo home"}),
            "home\n",
        );
        let task = TaskDefinition::parse(&json!({"workdir": "~/k8s-cli test", "run": "pwd"}), 1).unwrap();
        let Script::Argument(text) = script(&task) else {
            panic!("a short script")
        };
        let output = Command::new("/bin/bash")
            .args(["-c", &text])
            .env("HOME", "/tmp")
            .output();
        assert_eq!(output.unwrap().stdout, b"/tmp/k8s-cli test\n");
    }

    #[test]
    fn a_folder_that_is_not_there_ends_the_node() {
        let output = run(&json!({"workdir": "/nowhere", "run": "echo never"}));
        assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
    }

    #[test]
    fn arguments_and_name_are_those_of_a_plain_bash() {
        prints(&json!({"setup": "true", "run": "echo $0 $#"}), "/bin/bash 0\n");
    }

    #[test]
    fn bash_says_nothing_of_a_child_that_ends_at_once() {
        let slow = INIT.replace("set +m", "sleep 0.2\nset +m");
        assert_ne!(slow, INIT);
        let output = Command::new("/bin/bash")
            .args(["-c", &slow, "k8s-cli", "-c", "echo out; echo err >&2"])
            .output()
            .unwrap();
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }

    #[test]
    fn the_exit_code_is_that_of_the_script() {
        for code in [0, 7, 10, 143] {
            assert_eq!(run(&json!({"run": format!("exit {code}")})).status.code(), Some(code));
        }
    }

    /// Starts a node, waits until it prints `ready`, and sends it SIGTERM. Later output is not read yet.
    fn told_to_end(init: &str, script: &str) -> Child {
        let mut node = Command::new("/bin/bash")
            .args(["-c", init, "k8s-cli", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        node.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"ready\n");
        let told = Command::new("kill").args(["-TERM", &node.id().to_string()]).status();
        assert!(told.unwrap().success());
        node
    }

    #[test]
    fn variables_of_the_task_do_not_lead_process_1_astray() {
        let mut node = Command::new("/bin/bash");
        node.args(["-c", INIT, "k8s-cli", "-c", "echo $told $pipe $code"]);
        let output = node
            .envs([("told", "1"), ("pipe", "9"), ("code", "2")])
            .output()
            .unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(0), &b"1 9 2\n"[..])
        );
    }

    #[test]
    fn a_script_that_was_told_to_end_has_not_succeeded() {
        for (handler, code) in [("exit 0", 143), ("exit 5", 5), ("true", 143)] {
            let script = format!("trap '{handler}' TERM; echo ready; while :; do read -rt 0.1 <> <(:); done");
            let script = if handler == "true" {
                "echo ready; sleep 600".to_owned()
            } else {
                script
            };
            let mut node = told_to_end(INIT, &script);
            assert_eq!(node.wait().unwrap().code(), Some(code), "{handler}");
        }
    }

    #[test]
    fn a_script_that_is_told_to_end_as_soon_as_it_starts_hears_it() {
        let slow = INIT.replace("set +m", "sleep 0.5\nset +m");
        assert_ne!(slow, INIT);
        let mut node = told_to_end(
            &slow,
            "trap 'exit 5' TERM; echo ready; while :; do read -rt 0.1 <> <(:); done",
        );
        assert_eq!(node.wait().unwrap().code(), Some(5));
    }

    /// Without a container, the signal goes to the process group of the script.
    #[test]
    fn what_runs_in_the_foreground_has_its_time_when_the_script_is_told_to_end() {
        let trainer = "bash -c 'trap \"read -rt 0.5 <> <(:); echo saved; exit 0\" TERM; echo ready; while :; do read -rt 0.1 <> <(:); done'";
        for script in [format!("{trainer}; echo next"), format!("{trainer} & wait")] {
            let node = told_to_end(INIT, &script);
            let output = node.wait_with_output().unwrap();
            assert_eq!(
                (output.status.code(), output.stdout.as_slice()),
                (Some(143), &b"saved\n"[..]),
                "{script}"
            );
        }
    }

    #[test]
    fn what_the_script_leaves_behind_can_finish_and_does_not_stay() {
        prints(
            &json!({"run": "exec > >(read -rt 0.5 <> <(:); cat) 2>&1\necho one\necho two"}),
            "one\ntwo\n",
        );
        let output = run(&json!({"run": "sleep 600 & exit 4"}));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4));
        assert!(said.contains("terminating the processes it left running"), "{said}");
    }

    #[test]
    fn a_script_that_had_succeeded_before_it_was_told_stays_a_success() {
        // The process left behind prints `ready` once the script's bash is gone, and runs until SIGTERM.
        let script = "( while kill -0 $$; do read -rt 0.02 <> <(:); done; echo ready; \
                      while :; do read -rt 0.1 <> <(:); done ) 2>/dev/null &";
        let mut node = told_to_end(INIT, script);
        assert_eq!(node.wait().unwrap().code(), Some(0));
    }

    /// Runs a node of a gang whose gates open after a while.
    #[test]
    fn options_of_the_setup_do_not_end_the_waiting() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-script-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let place = dir.to_str().unwrap();
        let body = json!({"num_nodes": 2, "setup": "set -euo pipefail", "run": "echo \"ran $SKYPILOT_NODE_IPS\""});
        let task = TaskDefinition::parse(&body, 2).unwrap();
        let Script::Argument(text) = script(&task) else {
            panic!("a short script")
        };
        let text = text
            .replace("/etc/k8s-cli-gang", place)
            .replace("/etc/k8s-cli-state", place);
        let node = Command::new("/bin/bash")
            .args(["-c", INIT, "k8s-cli", "-c", &text])
            .env("NUM_NODES", "2")
            .env("NODE_RANK", "0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::fs::write(dir.join("node-ips"), "10.0.0.1").unwrap();
        while !dir.join("setup-done").exists() {
            std::thread::yield_now();
        }
        // Let it poll more than once.
        std::thread::sleep(std::time::Duration::from_millis(200));
        std::fs::write(dir.join("run"), "true").unwrap();
        let output = node.wait_with_output().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(0), &b"ran 10.0.0.1\n"[..])
        );
    }

    #[test]
    fn a_long_script_is_a_file() {
        let task = TaskDefinition::parse(&json!({"run": "#".repeat(131_072)}), 1).unwrap();
        assert!(matches!(script(&task), Script::File(_)));
    }
}
