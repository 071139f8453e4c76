//! Runs hooks with the bash of this machine.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use task::TaskDefinition;

use super::{MAX_GRACE_SECONDS, are_files, files, grace_seconds, hooks_script, seconds_for_hooks};
use crate::manifest::process_one::init_script;

/// Is `ready`, and ends with exit code 7 on SIGTERM.
const SCRIPT: &str = "trap 'echo saved; exit 7' TERM; echo ready; while :; do read -rt 0.1 <> <(:); done";

fn with_hooks(hooks: &Value) -> TaskDefinition {
    with(&json!({"config": {"hooks": hooks}}))
}

/// A task with these keys.
fn with(keys: &Value) -> TaskDefinition {
    let mut body = keys.clone();
    body["run"] = json!("true");
    TaskDefinition::parse(&body, 3).unwrap()
}

fn start(definition: &TaskDefinition, script: &str) -> Command {
    let init = init_script(&hooks_script(definition).unwrap_or_default(), "");
    let mut node = Command::new("/bin/bash");
    node.args(["-c", &init, "k8s-cli", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    node
}

/// Starts a node, and waits until it prints `ready`.
fn ready(mut node: Command) -> Child {
    let mut node = node.spawn().unwrap();
    let mut text = [0; 6];
    node.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
    assert_eq!(&text, b"ready\n");
    node
}

fn terminate(node: &Child) {
    let told = Command::new("kill").args(["-TERM", &node.id().to_string()]).status();
    assert!(told.unwrap().success());
}

/// Starts a node, terminates it, and returns its later output.
fn terminated(node: Command) -> Output {
    let node = ready(node);
    terminate(&node);
    node.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn hooks_run_in_order_before_the_script_receives_sigterm() {
    let task = with_hooks(&json!([{"run": "read -rt 0.3 <> <(:); echo one"}, {"run": "echo two"}]));
    let output = terminated(start(&task, SCRIPT));
    assert_eq!(text(&output.stdout), "one\ntwo\nsaved\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(7), ""));
}

#[test]
fn a_hook_that_fails_is_told_and_the_next_one_runs() {
    let task = with_hooks(&json!([
        {"run": "echo 'it''s'; exit 3"}, {"run": "echo 'open"}, {"run": "no-such-program"}, {"run": "echo $(echo last)"},
    ]));
    let output = terminated(start(&task, SCRIPT));
    assert_eq!(text(&output.stdout), "its\nlast\nsaved\n");
    assert_eq!(output.status.code(), Some(7));
    let told = text(&output.stderr);
    for line in [
        "[k8s-cli: hook 1 of 4 failed with exit code 3]\n",
        "[k8s-cli: hook 2 of 4 failed with exit code ",
        "no-such-program: command not found\n[k8s-cli: hook 3 of 4 failed with exit code 127]\n",
    ] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn a_hook_that_takes_too_long_is_ended_with_all_that_it_started() {
    let stubborn = "trap '' TERM; sleep 600 & echo $!; while :; do wait; done";
    let task = with_hooks(&json!([{"run": stubborn, "timeout": 1}, {"run": "echo next"}]));
    let start_time = Instant::now();
    let output = terminated(start(&task, SCRIPT));
    assert!(
        start_time.elapsed() < Duration::from_secs(8),
        "{:?}",
        start_time.elapsed()
    );
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines[1..], ["next", "saved"]);
    assert!(!std::path::Path::new("/proc").join(lines[0]).join("exe").exists());
    let told = "[k8s-cli: hook 1 of 2 has not ended within 1 s; terminating it]\n";
    assert_eq!(text(&output.stderr), told);
}

#[test]
fn the_grace_period_bounds_all_hooks() {
    let config = json!({"pod_config": {"spec": {"terminationGracePeriodSeconds": 2}}});
    let hooks = json!([{"run": "sleep 600"}, {"run": "echo late"}]);
    let task = with(&json!({"config": {"kubernetes": config, "hooks": hooks}}));
    let output = terminated(start(&task, SCRIPT));
    assert_eq!(text(&output.stdout), "saved\n");
    let told = text(&output.stderr);
    assert!(told.contains("hook 1 of 2 has not ended within 2 s"), "{told}");
    assert!(
        told.contains("[k8s-cli: the grace period has no time left for hook 2 of 2]\n"),
        "{told}"
    );
}

#[test]
fn a_hook_has_the_environment_and_the_directory_of_the_task() {
    let hooks = json!([
        {"run": "echo \"$code $k8s_cli_told $PWD $0 $#\"; echo /proc/self/fd/*; cd /; export code=changed"},
        {"run": "echo \"$code $PWD\"; echo /proc/self/fd/*; set | grep -c '^k8s_cli_'"},
    ]);
    let task = with(&json!({"workdir": "/usr/$part", "config": {"hooks": hooks}}));
    let mut node = start(&task, SCRIPT);
    node.envs([("code", "mine"), ("part", "bin"), ("TMOUT", "1"), ("SECONDS", "9")]);
    let output = terminated(node);
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines[0], "mine  /usr/bin /bin/bash 0");
    assert_eq!(lines[2], "mine /usr/bin");
    assert_eq!(
        lines[1], lines[3],
        "what process 1 has opened in between is not open here"
    );
    assert_eq!(lines[4..], ["0", "saved"]);
}

#[test]
fn a_hook_whose_directory_is_missing_fails() {
    let task = with(&json!({"workdir": "/nowhere", "config": {"hooks": [{"run": "echo never"}]}}));
    let output = terminated(start(&task, SCRIPT));
    assert_eq!(text(&output.stdout), "saved\n");
    let told = text(&output.stderr);
    assert!(
        told.contains("/nowhere") && told.contains("hook 1 of 1 failed with exit code 1"),
        "{told}"
    );
}

#[test]
fn a_second_sigterm_does_not_interrupt_the_hooks() {
    let task = with_hooks(&json!([{"run": "echo ready; read -rt 1 <> <(:); echo one"}, {"run": "echo two"}]));
    let mut node = ready(start(&task, SCRIPT));
    terminate(&node);
    let mut begun = [0; 6];
    node.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    terminate(&node);
    let output = node.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "one\ntwo\nsaved\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_script_that_ends_while_a_hook_runs_keeps_its_exit_code() {
    // Exit code 0 after SIGTERM does not mean that the work is finished.
    for (code, expected) in [(5, 5), (0, 143)] {
        let task = with_hooks(&json!([{"run": "read -rt 1 <> <(:); echo one"}, {"run": "echo two"}]));
        let script = format!("echo ready; read -rt 0.5 <> <(:); exit {code}");
        let output = terminated(start(&task, &script));
        assert_eq!(
            (text(&output.stdout), output.status.code()),
            ("one\ntwo\n", Some(expected))
        );
    }
}

#[test]
fn a_script_that_has_ended_has_nothing_to_save() {
    let task = with_hooks(&json!([{"run": "echo never"}]));
    let script = "( while kill -0 $$; do read -rt 0.02 <> <(:); done; echo ready; \
                  while :; do sleep 0.1; done ) 2>/dev/null &";
    let output = terminated(start(&task, script));
    assert_eq!((text(&output.stdout), output.status.code()), ("", Some(0)));
}

#[test]
fn hooks_of_a_gang_run_once_it_has_begun_and_have_the_addresses() {
    let gate = std::env::temp_dir().join(format!("k8s-cli-gate-{}", std::process::id()));
    let hooks = json!([{"run": "echo \"$SKYPILOT_NODE_IPS $MASTER_ADDR $RANK\""}]);
    let task = with(&json!({"num_nodes": 3, "config": {"hooks": hooks}}));
    let program = init_script(&hooks_script(&task).unwrap_or_default(), "");
    let program = program.replace("/etc/k8s-cli-gang/node-ips", gate.to_str().unwrap());
    let output = || {
        let mut node = Command::new("/bin/bash");
        node.args(["-c", &program, "k8s-cli", "-c", SCRIPT])
            .env("NODE_RANK", "2")
            .stdout(Stdio::piped());
        terminated(node).stdout
    };
    assert_eq!(text(&output()), "saved\n");
    std::fs::write(&gate, "10.0.0.1\n10.0.0.2\n10.0.0.3").unwrap();
    assert_eq!(text(&output()), "10.0.0.1\n10.0.0.2\n10.0.0.3 10.0.0.1 2\nsaved\n");
    std::fs::remove_file(&gate).unwrap();
}

#[test]
fn only_timeouts_that_are_set_lengthen_the_grace_period() {
    for (timeouts, grace, for_hooks) in [
        (json!([]), None, 20),
        (json!([null]), None, 20),
        (json!([60]), Some(90), 80),
        (json!([60, null, 5]), Some(95), 85),
        (json!([3600, 3600]), Some(MAX_GRACE_SECONDS), 590),
    ] {
        let timeouts = timeouts.as_array().unwrap();
        let hooks: Vec<Value> = timeouts
            .iter()
            .map(|timeout| json!({"run": "x", "timeout": timeout}))
            .collect();
        let task = with_hooks(&json!(hooks));
        assert_eq!(
            (grace_seconds(&task.hooks), seconds_for_hooks(&task)),
            (grace, for_hooks),
            "{timeouts:?}"
        );
    }
}

#[test]
fn long_hooks_are_files() {
    let long = "#".repeat(5000);
    let of =
        |num_nodes: u32| with(&json!({"num_nodes": num_nodes, "config": {"hooks": [{"run": "a"}, {"run": long}]}}));
    assert!(!are_files(&of(1)) && files(&of(1)).is_empty());
    let gang = of(2);
    assert_eq!(
        files(&gang).into_iter().collect::<Vec<_>>(),
        [
            ("hook-1".to_owned(), "a".to_owned()),
            ("hook-2".to_owned(), long.clone())
        ]
    );
    let program = hooks_script(&gang).unwrap();
    assert!(program.contains("hook 2 3600 /etc/k8s-cli/hook-2\n") && !program.contains(&long));
    let many = vec![json!({"run": "'".repeat(16 * 1024)}); 2];
    assert!(are_files(&with_hooks(&json!(many))), "each quote takes four characters");
}
