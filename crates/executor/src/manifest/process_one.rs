//! The program of process 1 of a node: runs the node's script, passes SIGTERM on, and reaps what is left running.

/// The program of process 1. It runs `begin` once the node's script has started, e.g., the functions that run hooks when it
/// receives SIGTERM (see `hooks.rs`), and `end` when nothing else runs anymore.
#[must_use]
pub(super) fn init_script(begin: &str, end: &str) -> String {
    format!("{START}{begin}{REST}{end}exit \"$k8s_cli_code\"\n")
}

/// Process 1 of the container. It starts the node's script as a child, forwards SIGTERM to every process of the
/// container, and exits with the script's exit code once nothing else runs.
///
/// As process 1, bash ignores SIGTERM unless it traps it, so the node would last for the whole grace period. Forwarding
/// the signal only to the script's bash is not enough either: it exits immediately, and the container with it, while
/// its foreground process may be saving a checkpoint. So all processes get the signal (`kill -1`), and process 1 then
/// waits for all of them; Kubernetes sends SIGKILL after the grace period. Where this shell is not process 1 (pods with
/// a shared process namespace, machines without namespaces), the script's process group takes the place of the
/// container. The script is started under job control (`set -m`) to get one, and job control is switched off again,
/// because it prints notices. Bash's own messages are discarded, because a child that ends before that triggers one.
///
/// The task's environment variables are visible here as well, and hooks inherit them later, so ours have names that no
/// task uses. They are set only after the script has started. The exception is the flag that SIGTERM arrived early:
/// without a trap process 1 would miss the signal, and nobody sends it again.
///
/// `wait` also returns when a trapped signal arrives, so it is repeated until no signal interrupted it.
///
/// A script that exits with 0 after SIGTERM has saved what it could, but has not finished its work. With exit code 0
/// Kubernetes would count an evicted pod as completed, and the task would not be retried, so the code becomes 143. A
/// script that ended before SIGTERM arrived has succeeded, whatever it left running.
///
/// What still runs when the script exits gets 2 seconds, e.g., a `tee` at the end of its output that has not written
/// everything. Anything left after that is not part of the finished task: a log line announces its termination, and it
/// gets SIGTERM and another 5 seconds.
///
/// The prelude records every program that the script's bash does not find, in the termination message of the container,
/// so that the status can name it. The message to the user is bash's own. It comes in a variable that it removes itself,
/// because bash would show its text in the message of a syntax error in the first line of the script.
///
/// SIGTERM reaches every process, so also a `tee` that writes the output of the script to a file. It would end at once, and
/// the program before it would fail at its next line instead of saving a checkpoint. The prelude therefore lets `tee` ignore
/// the signal: it ends with its input.
///
/// To pause, bash reads with a timeout from a pipe that nobody writes to: an image may lack `sleep`.
///
/// Both parts together are process 1. `hooks.rs` replaces `forward` in between.
const START: &str = r#"exec 3>&2 2>/dev/null
trap 'k8s_cli_told=1' TERM
set -m
K8S_CLI_PRELUDE='unset K8S_CLI_PRELUDE
command_not_found_handle() {
  { set +x; } 2>/dev/null
  printf "%s: line %s: %s: command not found\n" "$0" "${BASH_LINENO[0]}" "$1" >&2
  local known=$(</dev/termination-log) 2>/dev/null
  [ "${#known}" -gt 2000 ] || printf "command not found: %s\n" "$1" 2>/dev/null >>/dev/termination-log
  return 127
}
tee() { (trap "" TERM; exec tee "$@"); }' /bin/bash "$@" 2>&3 3>&- &
set +m
k8s_cli_child=$! k8s_cli_term= k8s_cli_pipe=
case $$ in 1) k8s_cli_all=-1 ;; *) k8s_cli_all=-$k8s_cli_child ;; esac
pause() { [ -n "$k8s_cli_pipe" ] || exec {k8s_cli_pipe}<> <(:); read -rt 0.05 -u "$k8s_cli_pipe"; }
forward() { kill -TERM -- "$k8s_cli_all"; }
"#;

/// The rest, after the functions that hooks replace.
const REST: &str = r#"trap 'k8s_cli_signalled=1 k8s_cli_term=1; forward' TERM
[ -z "$k8s_cli_told" ] || { k8s_cli_term=1; forward; }
while
  k8s_cli_signalled=
  wait "$k8s_cli_child"
  k8s_cli_code=$?
  [ -n "$k8s_cli_signalled" ]
do :; done
case "$k8s_cli_term:$k8s_cli_code" in 1:0) k8s_cli_code=143 ;; esac
left() { kill -0 -- "$k8s_cli_all"; }
k8s_cli_pauses=0
while [ -z "$k8s_cli_term" ] && left && [ $((k8s_cli_pauses += 1)) -le 140 ]; do
  if [ "$k8s_cli_pauses" = 40 ]; then
    echo '[k8s-cli: the script has exited; terminating the processes it left running]' >&3
    kill -TERM -- "$k8s_cli_all"
  fi
  pause
done
while [ -n "$k8s_cli_term" ] && left; do pause; done
"#;
