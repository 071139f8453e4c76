//! The `k8s-cli` binary: the CLI and, when it re-executes itself, the shim of a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::return_large_blocks();
    if let Some(code) = server::run_if_in_container() {
        return code;
    }
    cli::main()
}
