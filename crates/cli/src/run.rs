//! Entry point: parses arguments, runs the command, and maps errors to exit codes.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;

use crate::args::{self, ApiCommand, Args, Command, Format};
use crate::commands;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{escape_8_bit_controls, escape_controls, escape_json, print_message};

/// Runs the CLI with the arguments and environment of the process.
#[must_use]
pub fn main() -> ExitCode {
    // If a shell asks for completions, answers and exits. First, because the arguments are incomplete then.
    CompleteEnv::with_factory(|| commands::completions::attach_completers(Args::command())).complete();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return report_usage_error(&error),
    };
    // The server builds its own multi-threaded runtime, which cannot be nested in that of the CLI.
    if let Command::Api(ApiCommand::Serve(serve)) = args.command {
        return server::main(*serve);
    }
    let is_json = args.command.format() == Some(Format::Json);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // With `k8s-cli jobs logs ID | head`, the reader closes the pipe once it has enough. Rust ignores SIGPIPE, so
        // the write fails with EPIPE instead of ending the process; other programs end silently here, so do not report
        // an error.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                report_error(&error, is_json);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Handles what clap returns as an error: invalid arguments, but also `--help` and `--version`.
fn report_usage_error(error: &clap::Error) -> ExitCode {
    match args::suggest(error) {
        Some(suggestion) => {
            report_error(&Error::Usage(suggestion), false);
            ExitCode::from(2)
        }
        None => server::args::print_error(error),
    }
}

/// A single-threaded runtime is enough for a CLI and starts faster.
#[tokio::main(flavor = "current_thread")]
async fn run(args: Args) -> Result<()> {
    let Args { global, command } = args;
    match command {
        Command::Jobs(command) => commands::jobs::run(Context::new(&global, command.short_url())?, command).await,
        Command::Volumes(command) => commands::volumes::run(Context::new(&global, command.short_url())?, command).await,
        Command::Auth(command) => commands::auth::run(&global, command),
        Command::Api(command) => commands::api::run(&Context::new(&global, None)?, command).await,
        Command::Doctor(output) => commands::doctor::run(&Context::new(&global, None)?, output.format).await,
        Command::Gpus(args) => commands::gpus::run(&Context::new(&global, None)?, &args).await,
        Command::Usage(args) => commands::usage::run(&Context::new(&global, None)?, &args).await,
        Command::Explain { key } => commands::explain::run(&key),
        Command::Completions { shell } => commands::completions::run(shell),
        Command::Man { dir } => commands::man::run(&dir),
    }
}

fn report_error(error: &Error, is_json: bool) {
    if is_json {
        print_message(&escape_json(&error.to_json().to_string()));
        return;
    }
    let style = anstyle::AnsiColor::Red.on_default().bold();
    match error {
        // A report has its own heading for each message.
        Error::InvalidTask(report) => print_message(&escape_8_bit_controls(&report.to_string())),
        other => print_message(&format!("{style}error:{style:#} {}", escape_controls(&other.message()))),
    }
    let style = anstyle::AnsiColor::Cyan.on_default().bold();
    if let Some(hint) = error.hint() {
        print_message(&format!("{style}hint:{style:#} {hint}"));
    }
    if let Some(id) = error.request_id() {
        print_message(&format!("{style}request:{style:#} {id}"));
    }
}
