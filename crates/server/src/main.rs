//! `k8s-cli-api`: the API server.

use std::process::ExitCode;

use clap::Parser;
use server::args::Args;
use server::{run, telemetry};

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = telemetry::logging::init(&args) {
        eprintln!("error: {error:#}");
        return ExitCode::from(2);
    }
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
