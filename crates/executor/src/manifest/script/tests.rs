//! Runs the scripts of nodes with the bash of this machine.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use task::TaskDefinition;

use super::{Script, script};
use crate::delivery::Delivery;
use crate::manifest::process_one::init_script;

const WITHOUT_FILES: Delivery = Delivery::Packed(Vec::new());

/// The script of a task with at most two nodes.
fn text_of(definition: &Value) -> String {
    match script(&TaskDefinition::parse(definition, 2).unwrap(), &WITHOUT_FILES) {
        Script::Argument(text) => text,
        Script::File(_) => panic!("a short script"),
    }
}

fn run(definition: &Value) -> Output {
    let text = text_of(definition);
    // A process that never ends would hang the test.
    Command::new("timeout")
        .args(["60", "/bin/bash", "-c", &init_script("", ""), "k8s-cli", "-c", &text])
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
fn lines_of_run_are_counted_from_1() {
    let task = TaskDefinition::parse(&json!({"run": "echo $$\n"}), 1).unwrap();
    let Script::Argument(text) = script(&task, &WITHOUT_FILES) else {
        panic!()
    };
    assert_eq!(
        (text.lines().count(), text.ends_with("; echo $$\n")),
        (1, true),
        "{text}"
    );
    prints(&json!({"run": "#!/bin/bash\necho $LINENO"}), "2\n");
}

#[test]
fn a_program_that_is_missing_is_told_as_bash_does() {
    let output = run(&json!({"run": "true\nno-such-program -x; echo $?"}));
    assert_eq!(output.stdout, b"127\n", "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "/bin/bash: line 2: no-such-program: command not found\n");
    prints(
        &json!({"run": "command_not_found_handle() { echo \"own $1\"; }; no-such-program"}),
        "own no-such-program\n",
    );
}

#[test]
fn what_setup_exports_is_seen_in_run() {
    for (setup, run, expected) in [
        ("A='it''s'; export A", "echo $A", "its\n"),
        (
            "export A=$'line\\n\"quoted\" $(no) \\\\'",
            "printf %s \"$A\"",
            "line\n\"quoted\" $(no) \\",
        ),
        ("f() { echo called; }; export -f f", "f", "called\n"),
        ("export -a LIST=(a 'b c')", "echo ${#LIST[@]}", "2\n"),
        ("trap 'echo bye' EXIT; export A=1", "echo $A", "bye\n1\n"),
        ("export A=1; exit 0", "echo $A", "1\n"),
        ("set -eu; export A=1", "echo $A$UNSET", "1\n"),
        ("set -a; A=1", "echo $A; declare -Fx", "1\n"),
        ("export PATH=/mine:$PATH", "echo ${PATH%%:*}", "/mine\n"),
        ("export A=1; kill -9 $BASHPID", "echo never", ""),
        ("exec 10>/dev/null; export A=1", "echo $A", "1\n"),
        ("exec 10>&- 11>&- 12>&-; export A=1", "echo $A", "1\n"),
        ("printf() { :; }; declare() { :; }; export A=1", "echo $A", "1\n"),
        ("set -T; trap 'echo false >&2' DEBUG; export A=1", "echo ${A}", "1\n"),
        ("IFS=0; export A=1", "echo $A", "1\n"),
    ] {
        prints(&json!({"setup": setup, "run": run}), expected);
    }
}

#[test]
fn what_setup_exports_may_be_larger_than_a_pipe() {
    let setup = "export A=$(printf 'x%.0s' {1..100000})";
    prints(&json!({"setup": setup, "run": "echo ${#A}"}), "100000\n");
}

#[test]
fn a_timeout_of_the_shell_does_not_end_the_wait_for_setup() {
    let body = json!({"setup": "sleep 1.2; export A=1", "run": "echo $A"});
    let text = text_of(&body);
    let output = Command::new("timeout")
        .args(["20", "/bin/bash", "-c", &text])
        .env("TMOUT", "1")
        .output();
    assert_eq!(output.unwrap().stdout, b"1\n");
}

#[test]
fn setup_and_run_begin_alike() {
    for (setup, run, expected) in [
        (
            "mkdir -p repo && cd repo",
            "cd repo && echo \"${PWD##*/}\"; cd .. && rmdir repo",
            "repo\n",
        ),
        ("set -euo pipefail", "false; echo \"went on $UNSET\"", "went on \n"),
        ("cd /", "[ \"$PWD\" = \"$(pwd -P)\" ] && echo same", "same\n"),
        (
            "f() { :; }; x=1",
            "echo \"$x\"; declare -F | grep -v -e command_not_found_handle -e tee",
            "\n",
        ),
        ("exec >/dev/null", "echo shown", "shown\n"),
        ("exit 0", "echo started", "started\n"),
        ("exec true", "echo started", "started\n"),
        ("set -n", "echo started", "started\n"),
    ] {
        prints(&json!({"setup": setup, "run": run}), expected);
    }
}

#[test]
fn run_does_not_wait_for_background_jobs_of_setup() {
    let start = std::time::Instant::now();
    // Bash itself keeps all descriptors open.
    let setup = "while :; do read -rt 1 <> <(:); done & export A=$!";
    prints(&json!({"setup": setup, "run": "wait; echo ran; kill $A"}), "ran\n");
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn nothing_of_ours_is_left_in_run() {
    let script = "set | grep k8s_cli | grep -v -e ^_= -e ^BASH_EXECUTION_STRING=; ls /proc/self/fd | wc -l";
    let alone = run(&json!({"run": script})).stdout;
    prints(
        &json!({"setup": "true", "run": script}),
        &String::from_utf8(alone).unwrap(),
    );
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
    for setup in [
        "false",
        "exit 3",
        "set -e; false; true",
        "trap 'echo mine' EXIT; false",
        "exec false",
        "kill -9 $BASHPID",
    ] {
        let text = text_of(&json!({"setup": setup, "run": "echo ran"}));
        let text = text.replace(message, "/dev/stderr");
        let output = Command::new("/bin/bash").args(["-c", &text]).output().unwrap();
        assert!(
            !output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("ran"),
            "{setup}"
        );
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.starts_with("setup failed with exit code "), "{setup}: {told}");
    }
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
    let text = text_of(&json!({"workdir": "~/k8s-cli test", "run": "pwd"}));
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
    let slow = init_script("", "").replace("set +m", "sleep 0.2\nset +m");
    assert_ne!(slow, init_script("", ""));
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
    node.args(["-c", &init_script("", ""), "k8s-cli", "-c", "echo $told $pipe $code"]);
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
        let script = format!("trap '{handler}' TERM; echo ready; while :; do sleep 0.1; done");
        let script = if handler == "true" {
            "echo ready; sleep 600".to_owned()
        } else {
            script
        };
        let mut node = told_to_end(&init_script("", ""), &script);
        assert_eq!(node.wait().unwrap().code(), Some(code), "{handler}");
    }
}

#[test]
fn a_script_that_is_told_to_end_as_soon_as_it_starts_hears_it() {
    let slow = init_script("", "").replace("set +m", "sleep 0.5\nset +m");
    assert_ne!(slow, init_script("", ""));
    let mut node = told_to_end(&slow, "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done");
    assert_eq!(node.wait().unwrap().code(), Some(5));
}

/// Without a container, the signal goes to the process group of the script.
#[test]
fn what_runs_in_the_foreground_has_its_time_when_the_script_is_told_to_end() {
    let trainer =
        "bash -c 'trap \"read -rt 0.5 <> <(:); echo saved; exit 0\" TERM; echo ready; while :; do sleep 0.1; done'";
    for script in [format!("{trainer}; echo next"), format!("{trainer} & wait")] {
        let node = told_to_end(&init_script("", ""), &script);
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
    // The process left behind prints `ready` once the script's bash is gone and process 1 waits again, so that it knows
    // how the script has ended. It runs until SIGTERM.
    let script = "( waits() { read -r _ _ state _ </proc/$PPID/stat; [ \"$state\" = S ]; }
                  while kill -0 $$ || ! waits; do read -rt 0.02 <> <(:); done; echo ready; \
                  while :; do sleep 0.1; done ) 2>/dev/null &";
    let mut node = told_to_end(&init_script("", ""), script);
    assert_eq!(node.wait().unwrap().code(), Some(0));
}

/// Runs a node of a gang whose gates open after a while.
#[test]
fn options_of_the_setup_do_not_end_the_waiting() {
    let dir = std::env::temp_dir().join(format!("k8s-cli-script-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let place = dir.to_str().unwrap();
    let body = json!({"num_nodes": 2, "setup": "set -euo pipefail", "run": "echo \"ran $SKYPILOT_NODE_IPS\""});
    let text = text_of(&body);
    let text = text
        .replace("/etc/k8s-cli-gang", place)
        .replace("/etc/k8s-cli-state", place);
    let node = Command::new("/bin/bash")
        .args(["-c", &init_script("", ""), "k8s-cli", "-c", &text])
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
    assert!(matches!(script(&task, &WITHOUT_FILES), Script::File(_)));
}
