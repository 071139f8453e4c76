//! The hooks of a task: what process 1 of a node runs on SIGTERM, before the other processes receive it.

use std::collections::BTreeMap;

use task::TaskDefinition;
use task::definition::{DEFAULT_HOOK_TIMEOUT_SECONDS, Hook};

use super::quoting::quote;
use super::script::{MAX_COPIED_BYTES, NODE_IPS_GATE, SCRIPT_DIR, export_addresses};
use super::working_dir::start_directory;
use crate::pod_config::MAX_GRACE_SECONDS;

/// Kubernetes' default grace period, in seconds.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// How much of the grace period hooks leave to the processes of the task, in seconds. A third of a short one.
const MAX_RESERVED_SECONDS: i64 = 10;

/// The most bytes of hooks in the program of process 1, which is an argument of at most 128 KiB.
const MAX_ARGUMENT_HOOK_BYTES: usize = 64 * 1024;

/// Runs one hook: `hook NUMBER SECONDS ARGUMENTS`, with the arguments of its bash.
///
/// Like the script, it is started under job control, so that it has a process group, and can be ended with everything
/// that it has started. Its time is that of the hook or what is left for all hooks. A hook that ignores SIGTERM gets
/// SIGKILL after 2 seconds. `SECONDS` counts whole seconds, so that a hook may have up to one more.
const RUN_HOOK: &str = r#"hook() {
  k8s_cli_hook="hook $1 of $k8s_cli_hooks" k8s_cli_limit=$2
  shift 2
  [ "$k8s_cli_limit" -le $((k8s_cli_end - SECONDS)) ] || k8s_cli_limit=$((k8s_cli_end - SECONDS))
  [ "$k8s_cli_limit" -gt 0 ] || { echo "[k8s-cli: the grace period has no time left for $k8s_cli_hook]" >&3; return; }
  set -m
  begin "$@" 2>&3 3>&- &
  set +m
  k8s_cli_process=$! k8s_cli_over=$((SECONDS + k8s_cli_limit))
  while kill -0 "$k8s_cli_process" && [ "$SECONDS" -le "$k8s_cli_over" ]; do pause; done
  if kill -0 "$k8s_cli_process"; then
    echo "[k8s-cli: $k8s_cli_hook has not ended within $k8s_cli_limit s; terminating it]" >&3
    kill -TERM -- "-$k8s_cli_process"
    k8s_cli_pauses=0
    while kill -0 -- "-$k8s_cli_process" && [ $((k8s_cli_pauses += 1)) -le 40 ]; do pause; done
    kill -KILL -- "-$k8s_cli_process"
  else
    wait "$k8s_cli_process" || echo "[k8s-cli: $k8s_cli_hook failed with exit code $?]" >&3
  fi
}
"#;

/// A hook would inherit the pipe of `pause`.
const CLOSE_PIPE: &str = r#"  [ -z "$k8s_cli_pipe" ] || exec {k8s_cli_pipe}>&-
"#;

/// Replaces `forward` for one time. Hooks run only while the script does: nobody has to save anything after that. A
/// second SIGTERM does not interrupt them.
const FORWARD: &str = r#"forward() {
  forward() { kill -TERM -- "$k8s_cli_all"; }
  trap 'k8s_cli_signalled=1' TERM
  ! kill -0 "$k8s_cli_child" || run_hooks
  trap 'k8s_cli_signalled=1 k8s_cli_term=1; forward' TERM
  forward
}
"#;

/// The part of process 1's program that runs the hooks, or `None` without hooks.
pub(super) fn hooks_script(definition: &TaskDefinition) -> Option<String> {
    let hooks = &definition.hooks;
    if hooks.is_empty() {
        return None;
    }
    let is_gang = definition.num_nodes > 1;
    let mut text = format!("k8s_cli_hooks={}\n{RUN_HOOK}begin() {{\n{CLOSE_PIPE}", hooks.len());
    if is_gang {
        text.push_str(&export_addresses());
    }
    text.push_str(&start_directory(definition));
    // A background command has no trap of its own, and this one replaces its process by the hook's bash.
    text.push_str("  exec /bin/bash \"$@\"\n}\nrun_hooks() {\n");
    if is_gang {
        // Before the nodes have begun together, there is nothing to save.
        text.push_str(&format!("  [ -s {NODE_IPS_GATE} ] || return\n"));
    }
    text.push_str(&format!(
        "  k8s_cli_end=$((SECONDS + {}))\n",
        seconds_for_hooks(definition)
    ));
    let are_files = are_files(definition);
    for (number, hook) in (1..).zip(hooks) {
        let seconds = hook.timeout_secs.unwrap_or(DEFAULT_HOOK_TIMEOUT_SECONDS);
        let arguments = if are_files {
            format!("{SCRIPT_DIR}/{}", key(number))
        } else {
            format!("-c {}", quote(&hook.run))
        };
        text.push_str(&format!("  hook {number} {seconds} {arguments}\n"));
    }
    text.push_str("}\n");
    text.push_str(FORWARD);
    Some(text)
}

/// Whether the hooks are in the owner of the task and mounted, because they are too long for an argument, or to avoid a
/// copy in the Job of every node.
pub(super) fn are_files(definition: &TaskDefinition) -> bool {
    let limit = if definition.num_nodes > 1 {
        MAX_COPIED_BYTES
    } else {
        MAX_ARGUMENT_HOOK_BYTES
    };
    let bytes: usize = definition.hooks.iter().map(|hook| quote(&hook.run).len()).sum();
    bytes > limit
}

/// The hooks that are mounted, by file name.
pub(super) fn files(definition: &TaskDefinition) -> BTreeMap<String, String> {
    let hooks = if are_files(definition) {
        definition.hooks.as_slice()
    } else {
        &[]
    };
    let files = (1..).zip(hooks).map(|(number, hook)| (key(number), hook.run.clone()));
    files.collect()
}

fn key(number: u32) -> String {
    format!("hook-{number}")
}

/// The grace period, in seconds, that leaves time for the timeouts that the task sets; `None` for Kubernetes' default.
/// The default timeout, an hour, does not lengthen it: each stop of a task with a hook that hangs would take that long.
pub(super) fn grace_seconds(hooks: &[Hook]) -> Option<i64> {
    let set: i64 = hooks.iter().filter_map(|hook| hook.timeout_secs).map(i64::from).sum();
    (set > 0).then(|| (DEFAULT_GRACE_SECONDS + set).min(MAX_GRACE_SECONDS))
}

/// How many seconds all hooks may take together, so that the processes of the task still receive SIGTERM within the
/// grace period.
fn seconds_for_hooks(definition: &TaskDefinition) -> i64 {
    let pod_config = definition.kubernetes.pod_config.as_ref();
    let of_pod_config = pod_config.and_then(|config| config["spec"]["terminationGracePeriodSeconds"].as_i64());
    let grace = of_pod_config.or_else(|| grace_seconds(&definition.hooks));
    let grace = grace.unwrap_or(DEFAULT_GRACE_SECONDS).max(0);
    grace - MAX_RESERVED_SECONDS.min(grace / 3)
}

#[cfg(test)]
mod tests;
