//! `k8s-cli-helper`: the program as a binary of its own, for images.

use std::process::ExitCode;

fn main() -> ExitCode {
    helper::main()
}
