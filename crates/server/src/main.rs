//! `k8s-cli-api`: the API server. It re-executes itself as the shim of each container of the embedded engine,
//! and is the program with which tasks fetch files there.

use std::process::ExitCode;

use clap::Parser;
use server::args::Args;

fn main() -> ExitCode {
    allocator::return_large_blocks();
    if let Some(code) = server::run_if_in_container() {
        return code;
    }
    match Args::try_parse() {
        Ok(args) => server::main(args),
        Err(error) => server::args::print_error(&error),
    }
}
