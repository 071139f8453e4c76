//! What can be typed: commands, flags, and their help. Nothing is looked up here.

mod api;
mod help;
mod jobs;
mod neighbors;
mod output;
mod volumes;

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Parser, Subcommand};
use clap_complete::aot::Shell;

use crate::error::{Error, Result};

pub use api::ApiCommand;
pub use jobs::{Conditions, JobsCommand, List, Logs, SortKey, StateName, Status, Stop, Submit, Top, Wait};
pub use neighbors::sentence as neighbors_sentence;
pub use output::Format;
pub use volumes::{Create, Delete, ListVolumes, ShowVolumes, VolumesCommand};

/// Runs computing tasks on Kubernetes, or on this machine.
///
/// A task is a small YAML file: how many nodes, which processors, memory and GPUs, and some bash.
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
pub struct Args {
    #[command(flatten)]
    pub global: Global,

    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Address of the server; by default `http://127.0.0.1:8000`, where one is started when it is needed.
    #[arg(long, env = "K8S_CLI_API_URL", global = true, value_name = "URL", hide_env_values = true, value_hint = clap::ValueHint::Url)]
    pub api_url: Option<String>,

    /// Who you are, for this command; else who `auth login` said, else your name on this machine.
    #[arg(
        long,
        env = "K8S_CLI_USER",
        global = true,
        value_name = "NAME",
        hide_env_values = true
    )]
    pub user: Option<String>,

    /// Also use a server on this machine that runs as another account, not just as you or root.
    #[arg(long, env = "K8S_CLI_TRUST_LOCAL_SERVER", global = true, hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub trust_local_server: bool,

    /// When to use colours; `NO_COLOR` is respected.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN", hide_possible_values = true)]
    pub color: Color,
}

impl Global {
    /// What the variables say of them, without a command line.
    ///
    /// # Errors
    /// One of them cannot be understood.
    pub fn from_environment() -> Result<Self> {
        #[derive(Parser)]
        struct Alone {
            #[command(flatten)]
            global: Global,
        }
        match Alone::try_parse_from(["k8s-cli"]) {
            Ok(Alone { global }) => Ok(global),
            Err(error) => Err(Error::Usage(error.to_string())),
        }
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Submit, list, follow and stop tasks.
    #[command(subcommand, alias = "job")]
    Jobs(JobsCommand),
    /// Create, list and delete volumes, which keep data from task to task.
    #[command(subcommand, alias = "volume")]
    Volumes(VolumesCommand),
    /// Say who you are.
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Run a server on this machine.
    #[command(subcommand)]
    Api(ApiCommand),
    /// Look at everything that a task needs, and say what is wrong.
    Doctor,
    /// Print the shell's completions, which know your tasks and volumes, too.
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a folder.
    Man {
        /// The folder, such as ~/.local/share/man/man1.
        #[arg(value_hint = clap::ValueHint::DirPath)]
        folder: PathBuf,
    },
}

impl Command {
    /// The form of its output, of a command that has several.
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Jobs(command) => command.format(),
            Self::Volumes(command) => command.format(),
            _ => None,
        }
    }
}

/// Who you are.
#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Remember who you are: the tasks and volumes you make belong to this name.
    Login {
        /// Any name, such as that of your mail.
        username: String,
    },
    /// Print who you are.
    Whoami,
    /// Forget who you are.
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
            ("jobs logs", ErrorKind::MissingRequiredArgument),
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
