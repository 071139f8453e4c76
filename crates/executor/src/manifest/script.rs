//! The bash script that a node runs.

use task::TaskDefinition;
use task::definition::MAX_ARGUMENT_BYTES;

use super::files;
use super::quoting::quote;
use super::working_dir::start_directory;
use crate::delivery::Delivery;

/// The most bytes of variables, and of a script, that are copied into each Job of a gang. Larger ones are stored once,
/// because a thousand copies of a megabyte would fill etcd.
pub(crate) const MAX_COPIED_BYTES: usize = 4096;

/// Where a script that is too long for an argument is mounted.
pub const SCRIPT_DIR: &str = "/etc/k8s-cli";
/// The file name of the script, and its key in the owner of the task.
pub const SCRIPT_KEY: &str = "script";

/// The default port of `torch.distributed`.
pub(super) const MASTER_PORT: u16 = 29500;

/// The directory with the gate files of a node in a gang.
pub(crate) const GANG_DIR: &str = "/etc/k8s-cli-gang";
/// The file in [`GANG_DIR`] that opens the start gate; it contains the addresses of all nodes.
pub(crate) const NODE_IPS_FILE: &str = "node-ips";
/// Its path.
pub(super) const NODE_IPS_GATE: &str = "/etc/k8s-cli-gang/node-ips";
/// The file in [`GANG_DIR`] that opens the run gate.
pub(crate) const RUN_FILE: &str = "run";
/// The directory in which a node records that its setup has ended.
pub(crate) const STATE_DIR: &str = "/etc/k8s-cli-state";
/// The file that records it.
pub(crate) const SETUP_DONE: &str = "/etc/k8s-cli-state/setup-done";

/// Runs the setup in a subshell, so that its directory, options, `exit`, and background jobs do not affect `run`, and
/// then sets the variables and functions that it exported.
///
/// They are passed through a pipe, because not every image has a directory to write to. A second process reads the pipe
/// while the setup runs, since a pipe holds only 64 KiB. The end is marked by a NUL and not by the end of the file:
/// background jobs of the setup may keep the pipe open. If the setup replaces our trap and exits itself, or replaces its
/// shell by `exec`, its exports are lost.
///
/// Meanwhile, bash's own messages are discarded: if the setup is killed, bash would print all of its text. `PWD` and
/// `OLDPWD` are the setup's own, and options and traps are reset first so that they don't act on this function. The pipe
/// is written to by its path, because the setup may use the same descriptor for a file. `TMOUT` would be the timeout of
/// `read`.
const BEFORE_SETUP: &str = r#"exec {k8s_cli_pipe}<> <(:)
exec {k8s_cli_exports}< <(TMOUT= IFS= read -rd '' -u "$k8s_cli_pipe" k8s_cli_text; printf '%s\0' "$k8s_cli_text")
exec {k8s_cli_stderr}>&2 2>/dev/null
(
k8s_cli_pipe=/proc/$$/fd/$k8s_cli_pipe
exec 2>&"$k8s_cli_stderr" {k8s_cli_stderr}>&- {k8s_cli_exports}<&-
unset -f k8s_cli_wait
k8s_cli_export() {
  { set +aux; trap - DEBUG ERR RETURN; } 2>/dev/null
  k8s_cli_export() { return "$1"; }
  [ "$1" = 0 ] || return "$1"
  builtin export -n PWD OLDPWD
  { builtin declare -px; builtin export -pf; builtin printf '\0'; } >"$k8s_cli_pipe"
}
trap 'k8s_cli_export "$?"' EXIT
"#;

/// Ends the node if the setup failed, and reports this as the termination message of the container. The NUL ends the
/// other process if the setup has not written one.
const AFTER_SETUP: &str = r#"k8s_cli_export "$?"
)
k8s_cli_code=$?
printf '\0' >&"$k8s_cli_pipe"
TMOUT= IFS= read -rd '' -u "$k8s_cli_exports" k8s_cli_text
exec 2>&"$k8s_cli_stderr" {k8s_cli_stderr}>&- {k8s_cli_pipe}>&- {k8s_cli_exports}<&-
if [ "$k8s_cli_code" != 0 ]; then
  echo "setup failed with exit code $k8s_cli_code" >>/dev/termination-log
  exit "$k8s_cli_code"
fi
eval "$k8s_cli_text" 2>/dev/null
unset k8s_cli_pipe k8s_cli_exports k8s_cli_stderr k8s_cli_text k8s_cli_code
"#;

/// Runs the prelude, on the same line as the first one of `run`, so that bash counts its lines from 1.
const RUN_PRELUDE: &str = r#"eval "$K8S_CLI_PRELUDE"; "#;

/// The script of a node, and how it reaches bash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// As an argument.
    Argument(String),
    /// As a mounted file, because Linux limits the length of an argument, or to avoid a copy in the Job of every node.
    File(String),
}

/// Builds the script of a task's nodes: change to the working directory, run the setup in a subshell, then `run`. Both
/// begin in the same directory with default options, and `run` sees what the setup exported.
///
/// The setup is passed to `eval` as a string, so that an unclosed quote in it cannot swallow `run`, and `set -e` works
/// in it. If it fails, the node fails. The nodes of a gang wait before the setup until all of them run, and before
/// `run` until the setup of all has ended.
#[must_use]
pub(crate) fn script(definition: &TaskDefinition, delivery: &Delivery) -> Script {
    let mut text = RUN_PRELUDE.to_owned();
    let is_gang = definition.num_nodes > 1;
    text.push_str(&files::bring(definition, delivery));
    if is_gang {
        text.push_str(&wait_for_start());
    }
    text.push_str(&start_directory(definition));
    if let Some(setup) = &definition.setup {
        text.push_str(&format!("{BEFORE_SETUP}eval {}\n{AFTER_SETUP}", quote(setup)));
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
/// To pause, bash reads with a timeout from a pipe that nobody writes to: an image may lack `sleep`.
fn wait_for_start() -> String {
    format!(
        r#"k8s_cli_wait() {{
  local pipe
  exec {{pipe}}<> <(:)
  until [ -s "$1" ]; do read -rt 0.05 -u "$pipe"; done
  exec {{pipe}}>&-
}}
k8s_cli_wait {NODE_IPS_GATE}
{}{NAME_NODES}"#,
        export_addresses()
    )
}

/// Lets each node find the others as `node-0`, `node-1`, and so on, if it may write to `/etc/hosts` and the file is the
/// pod's own, which has its name: without a container, it is the machine's. Names like `node-0.task-ID` need the DNS of a
/// cluster.
///
/// The kubelet writes the first line: `managedHostsHeader` in `pkg/kubelet/kubelet_pods.go` of kubernetes/kubernetes.
const NAME_NODES: &str = r#"k8s_cli_name_nodes() {
  local ip rank=0
  [[ $(</etc/hosts) = '# Kubernetes-managed hosts file'*[[:blank:]]"$HOSTNAME"* ]] || return
  while IFS= read -r ip; do
    printf '%s\tnode-%s\n' "$ip" $((rank++))
  done <<<"$SKYPILOT_NODE_IPS" >>/etc/hosts
}
k8s_cli_name_nodes 2>/dev/null
unset -f k8s_cli_name_nodes
"#;

/// Exports the addresses of a gang's nodes, once the start gate is open.
///
/// The variables are SkyPilot's (<https://docs.skypilot.co/en/latest/running-jobs/environment-variables.html>), and
/// those of `torch.distributed` unless the user has set them.
pub(super) fn export_addresses() -> String {
    format!(
        r#"SKYPILOT_NODE_IPS=$(<{NODE_IPS_GATE})
SKYPILOT_SETUP_NODE_IPS=$SKYPILOT_NODE_IPS
MASTER_ADDR=${{MASTER_ADDR-${{SKYPILOT_NODE_IPS%%$'\n'*}}}}
MASTER_PORT=${{MASTER_PORT-{MASTER_PORT}}}
WORLD_SIZE=${{WORLD_SIZE-$NUM_NODES}}
RANK=${{RANK-$NODE_RANK}}
export SKYPILOT_NODE_IPS SKYPILOT_SETUP_NODE_IPS MASTER_ADDR MASTER_PORT WORLD_SIZE RANK
"#
    )
}

#[cfg(test)]
mod tests;
