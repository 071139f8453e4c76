//! `k8s-cli`: the command line; and, called by itself, the supervisor of a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = server::entered() {
        return code;
    }
    cli::main()
}
