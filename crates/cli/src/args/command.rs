//! The top-level commands and the global options.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use clap_complete::aot::Shell;

use super::api::ApiCommand;
use super::help;
use super::jobs::JobsCommand;
use super::output::{Format, OutputArgs, ReportOutputArgs};
use super::volumes::VolumesCommand;
use crate::error::{Error, Result};

/// Run batch tasks on Kubernetes or on this machine.
///
/// A task is a YAML file that declares the number of nodes, their CPUs, memory, and GPUs, and a shell script.
#[derive(Debug, Parser)]
#[command(
    name = "k8s-cli",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = help::EXAMPLES,
    after_long_help = help::LONG
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub global: GlobalArgs,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// URL of the server. By default `http://127.0.0.1:8000`, where a server is started on demand.
    #[arg(long, env = "K8S_CLI_API_URL", global = true, value_name = "URL", hide_env_values = true, value_hint = clap::ValueHint::Url)]
    pub api_url: Option<String>,

    /// User name for this command. Defaults to the name saved by `auth login`, then to your login name.
    #[arg(
        long,
        env = "K8S_CLI_USER",
        global = true,
        value_name = "NAME",
        hide_env_values = true
    )]
    pub user: Option<String>,

    /// Trust a server on this machine that runs as an account other than yours or root.
    #[arg(long, env = "K8S_CLI_TRUST_LOCAL_SERVER", global = true, hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub trust_local_server: bool,

    /// When to use color: auto, always, never. Respects `NO_COLOR`.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN", hide_possible_values = true)]
    pub color: Color,
}

impl GlobalArgs {
    /// Reads the global options from environment variables only. Shell completion needs this: the command line is still
    /// incomplete there and would not parse.
    pub(crate) fn from_environment() -> Result<Self> {
        #[derive(Parser)]
        struct GlobalOnly {
            #[command(flatten)]
            global: GlobalArgs,
        }
        match GlobalOnly::try_parse_from(["k8s-cli"]) {
            Ok(GlobalOnly { global }) => Ok(global),
            Err(error) => Err(Error::Usage(error.to_string())),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// Only on a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit, list, follow, and stop tasks.
    #[command(subcommand, alias = "job")]
    Jobs(JobsCommand),
    /// Create, list, and delete volumes, which keep data between tasks.
    #[command(subcommand, alias = "volume")]
    Volumes(VolumesCommand),
    /// Log in, log out, and show the current user.
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Manage a server on this machine.
    #[command(subcommand)]
    Api(ApiCommand),
    /// Check everything a task needs and report problems.
    #[command(alias = "check")]
    Doctor(ReportOutputArgs),
    /// List the GPUs of the cluster by model, how many are free, and who uses the others.
    #[command(alias = "show-gpus")]
    Gpus(GpusArgs),
    /// Sum what your tasks have used: CPU-, memory-, and GPU-hours.
    Usage(UsageArgs),
    /// Explain the keys of a task file, e.g., task.resources or task.resources.cpus.
    Explain {
        /// Key of the task file.
        #[arg(value_name = "KEY", default_value = "task")]
        key: String,
    },
    /// Generate a shell completion script, which also completes your tasks and volumes.
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// Shell to generate completions for.
        shell: Shell,
    },
    /// Generate man pages.
    Man {
        /// Output directory, e.g., ~/.local/share/man/man1.
        #[arg(value_name = "FOLDER", value_hint = clap::ValueHint::DirPath)]
        dir: PathBuf,
    },
}

impl Command {
    /// The output format, for commands with `--output`.
    pub(crate) fn format(&self) -> Option<Format> {
        match self {
            Self::Jobs(command) => command.format(),
            Self::Volumes(command) => command.format(),
            Self::Gpus(args) => Some(args.output.format),
            Self::Usage(args) => Some(args.output.format.into()),
            Self::Doctor(output) | Self::Api(ApiCommand::Status(output)) => Some(output.format.into()),
            _ => None,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct GpusArgs {
    // `sky gpus list`.
    #[arg(hide = true, value_parser = ["list", "ls"])]
    list: Option<String>,

    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct UsageArgs {
    /// Count only tasks submitted within a relative duration, e.g., 7d, or since a timestamp.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub since: String,

    /// Count only tasks submitted before a relative duration, e.g., 1d, or a timestamp.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Sum the tasks of each user.
    #[arg(short = 'u', long)]
    pub all_users: bool,

    #[command(flatten)]
    pub output: ReportOutputArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Save your user name, which owns the tasks and volumes you create.
    Login {
        /// User name, e.g., your email address.
        username: String,
    },
    /// Print the current user name.
    Whoami,
    /// Delete the saved user name.
    Logout,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    use super::Args;

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_words_of_the_python_command_line_are_understood() {
        for line in [
            "auth login alice",
            "auth whoami",
            "jobs submit task.yaml",
            "jobs submit task.yaml -d",
            "jobs submit task.yaml --detach -u http://host:1",
            "jobs list",
            "jobs list -d -u",
            "jobs list --details --all-users --api-url http://host:1",
            "jobs status ID -u http://host:1",
            "jobs stop ID",
            "jobs stop --all",
            "jobs stop --all --all-users",
            "jobs stop --all -u",
            "jobs launch -n train -y --detach-run --infra k8s --use-spot --image-id docker:x task.yaml",
            "jobs submit --down -i 10 --retry-until-up --ports 8080 --priority -5 --dryrun task.yaml",
            "jobs queue",
            "jobs logs",
            "jobs logs ID -u http://host:1",
            "volumes create data 10Gi",
            "volumes create data 10Gi -s fast -a ReadWriteOnce,ReadOnlyMany",
            "volumes list --details --all-users",
            "volumes list -d -u",
            "volumes status ID",
            "volumes delete ID --force",
        ] {
            let words = std::iter::once("k8s-cli").chain(line.split(' '));
            if let Err(error) = Args::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (line, kind) in [
            ("jobs submit", ErrorKind::MissingRequiredArgument),
            ("jobs submit task.yaml -- echo", ErrorKind::ArgumentConflict),
            ("jobs stop", ErrorKind::MissingRequiredArgument),
            ("jobs stop ID --all", ErrorKind::ArgumentConflict),
            ("jobs stop ID --all-users", ErrorKind::ArgumentConflict),
            ("jobs logs ID --follow --no-follow", ErrorKind::ArgumentConflict),
            ("jobs submit task.yaml --dry-run --detach", ErrorKind::ArgumentConflict),
            ("jobs list --status nothing", ErrorKind::InvalidValue),
            ("jobs wait ID --timeout soon", ErrorKind::ValueValidation),
        ] {
            let words = std::iter::once("k8s-cli").chain(line.split(' '));
            let error = Args::try_parse_from(words).expect_err(line);
            assert_eq!(error.kind(), kind, "{line}");
        }
    }
}
