//! The `k8s-cli` binary: the CLI and, when it re-executes itself, the supervisor of a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = server::entered() {
        return code;
    }
    cli::main()
}
