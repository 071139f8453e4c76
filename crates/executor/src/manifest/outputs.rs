//! The outputs of a task: what process 1 of its first node sends to the server when nothing else runs anymore.

use task::TaskDefinition;

use super::quoting::{quote, quote_path};
use super::working_dir::start_directory;

/// Saves the token and the address in a variable that hooks do not inherit.
const PUT_ASIDE: &str = r#"k8s_cli_files=("$K8S_CLI_FILES_TOKEN" "$K8S_CLI_FILES_URL" "$K8S_CLI_FILES_URL_FILE" "$K8S_CLI_FILES_ATTEMPT")
"#;

/// After SIGTERM there is little time for a server that does not answer: half of the default grace period.
///
/// The program says itself why it failed, unless it cannot be started.
const KEEP: &str = r#"  export K8S_CLI_FILES_TOKEN=${k8s_cli_files[0]} K8S_CLI_FILES_URL=${k8s_cli_files[1]} K8S_CLI_FILES_URL_FILE=${k8s_cli_files[2]} K8S_CLI_FILES_ATTEMPT=${k8s_cli_files[3]}
  /etc/k8s-cli-helper/k8s-cli-helper keep --report /dev/termination-log ${k8s_cli_term:+--patience 15} --"#;

/// A run whose outputs are lost has not succeeded.
const END: &str = r#"[ "$NODE_RANK" != 0 ] || keep || [ "$k8s_cli_code" != 0 ] || k8s_cli_code=1
"#;

/// The function that sends the outputs, from the directory in which `run` has started.
pub(super) fn begin(definition: &TaskDefinition) -> String {
    if definition.outputs.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "{PUT_ASIDE}keep() (\n  exec 2>&3 3>&-\n{}{KEEP}",
        start_directory(definition)
    );
    for output in &definition.outputs {
        text.push_str(&format!(" {} {}", quote(&output.name), quote_path(&output.path)));
    }
    text.push_str("\n)\n");
    text
}

/// The line that runs it.
pub(super) fn end(definition: &TaskDefinition) -> &'static str {
    match definition.outputs.is_empty() {
        true => "",
        false => END,
    }
}
