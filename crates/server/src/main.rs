//! `k8s-cli-api`: the API server; and, called by itself, the supervisor of a container.

use std::process::ExitCode;

use clap::Parser;
use server::args::Args;
use server::{run, telemetry};

fn main() -> ExitCode {
    if let Some(code) = embedded::entered() {
        return code;
    }
    let args = Args::parse();
    if let Err(error) = telemetry::logging::init(&args) {
        eprintln!("error: {}", sentence(&error));
        return ExitCode::from(2);
    }
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The whole chain of causes in one line; some of them have a picture of the file below their first line.
fn sentence(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error
        .chain()
        .map(|cause| cause.to_string().lines().next().unwrap_or_default().to_owned())
        .collect();
    causes.join(": ")
}
