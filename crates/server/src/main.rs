//! `k8s-cli-api`: the API server; and, called by itself, the supervisor of a container.

use std::process::ExitCode;

use clap::Parser;
use server::args::Args;

fn main() -> ExitCode {
    if let Some(code) = server::entered() {
        return code;
    }
    match Args::try_parse() {
        Ok(args) => server::main(args),
        Err(error) => server::args::print(&error),
    }
}
