//! `k8s-cli jobs ...`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use jiff::SignedDuration;

use super::help;
use super::output::{Format, ListFormat, Output};
use crate::commands::completions;
use crate::task_file::Overrides;

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Submit a task, and follow its log until it ends.
    #[command(visible_alias = "launch", after_help = help::SUBMIT)]
    Submit(Box<Submit>),
    /// List your tasks.
    #[command(visible_alias = "ls", after_help = help::LIST)]
    List(List),
    /// Show the state of tasks and of each of their nodes.
    #[command(visible_alias = "describe")]
    Status(Status),
    /// Stop tasks: their processes get TERM, and KILL after 30 seconds. Status and log go with them.
    #[command(visible_aliases = ["rm", "cancel"])]
    Stop(Stop),
    /// Print the log of a task, all nodes in one, and follow it until the task ends.
    #[command(after_help = help::LOGS)]
    Logs(Logs),
    /// Wait until tasks are in some state.
    #[command(after_help = help::WAIT)]
    Wait(Wait),
    /// Watch your tasks, with the last line of each node's log.
    Top(Top),
}

impl JobsCommand {
    /// The `-u URL` of the commands that have it.
    pub fn short_url(&self) -> Option<&str> {
        let url = match self {
            Self::Submit(args) => &args.url,
            Self::Status(args) => &args.url,
            Self::Logs(args) => &args.url,
            Self::List(_) | Self::Stop(_) | Self::Wait(_) | Self::Top(_) => return None,
        };
        url.short_api_url.as_deref()
    }

    /// See [`super::Command::format`].
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Submit(args) => args.output,
            Self::List(args) => Some(args.format.format()),
            Self::Status(args) => Some(args.output.format),
            Self::Stop(_) | Self::Logs(_) | Self::Wait(_) | Self::Top(_) => None,
        }
    }
}

/// An address in the short form of the Python command line.
#[derive(Debug, Clone, clap::Args)]
pub struct ShortUrl {
    #[arg(short = 'u', value_name = "URL", hide = true)]
    pub short_api_url: Option<String>,
}

/// `k8s-cli jobs submit`.
#[derive(Debug, clap::Args)]
pub struct Submit {
    /// The task in YAML; `-` reads it from standard input.
    #[arg(required_unless_present = "command", conflicts_with = "command", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,

    /// A command to run instead of a file.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,

    /// Return when the task is submitted, without following its log.
    #[arg(short, long)]
    pub detach: bool,

    /// Print the identifier only, on standard output; the rest stays on standard error. Implies --detach.
    #[arg(short, long)]
    pub quiet: bool,

    /// End with the exit code of the task that failed, instead of 100.
    #[arg(long, conflicts_with_all = ["detach", "quiet"])]
    pub exit_code: bool,

    /// End with 0 also when the task failed or was stopped.
    #[arg(long, conflicts_with_all = ["detach", "quiet", "exit_code"])]
    pub no_exit_code: bool,

    /// Let the server and Kubernetes check the task, print what would be made, and make nothing.
    #[arg(long, conflicts_with_all = ["detach", "quiet", "exit_code", "no_exit_code"])]
    pub dry_run: bool,

    /// Form of the manifests of --dry-run, or of the answer with --detach: yaml, json.
    #[arg(short, long, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Format>,

    /// Submitting again with the same key makes no second task; each submit has a key of its own when this is absent.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,

    #[command(flatten)]
    pub overrides: Overrides,

    #[command(flatten)]
    pub url: ShortUrl,
}

/// `k8s-cli jobs list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Tasks of all users.
    #[arg(short = 'u', long)]
    pub all_users: bool,

    /// Only tasks in these states, separated by commas: pending, running, completed, failed.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "STATES",
        hide_possible_values = true
    )]
    pub status: Vec<StateName>,

    /// Order: age (oldest first), name, status, nodes, user.
    #[arg(long, value_enum, default_value_t, value_name = "KEY", hide_possible_values = true)]
    pub sort_by: SortKey,

    /// Go on, and print what changes.
    #[arg(short, long)]
    pub watch: bool,

    #[command(flatten)]
    pub format: ListFormat,
}

/// A state, as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateName {
    /// No container runs yet.
    Pending,
    /// A container runs.
    Running,
    /// Every node succeeded.
    #[value(alias = "succeeded")]
    Completed,
    /// A node failed.
    Failed,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SortKey {
    /// Oldest first.
    #[default]
    #[value(alias = "created")]
    Age,
    /// By name.
    Name,
    /// By state.
    Status,
    /// Fewest first.
    Nodes,
    /// By owner.
    User,
}

/// `k8s-cli jobs status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Identifiers, their beginnings, or names.
    #[arg(required = true, value_name = "TASK", add = ArgValueCandidates::new(completions::tasks))]
    pub tasks: Vec<String>,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub url: ShortUrl,
}

/// `k8s-cli jobs stop`.
#[derive(Debug, clap::Args)]
pub struct Stop {
    /// Identifiers, their beginnings, or names.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "TASK", add = ArgValueCandidates::new(completions::tasks))]
    pub tasks: Vec<String>,

    /// All of your tasks.
    #[arg(long)]
    pub all: bool,

    /// With --all: the tasks of all users.
    #[arg(short = 'u', long, requires = "all", conflicts_with = "tasks")]
    pub all_users: bool,

    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,

    /// A task that is not there is no failure.
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// `k8s-cli jobs logs`.
#[derive(Debug, clap::Args)]
pub struct Logs {
    /// Identifier, its beginning, or name.
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(completions::tasks))]
    pub task: String,

    /// Go on until the task ends; this is the default.
    #[arg(short, long, overrides_with = "follow")]
    follow: bool,

    /// Print what is there now.
    #[arg(long, conflicts_with = "follow")]
    pub no_follow: bool,

    /// Only so many last lines of each node.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,

    /// Only what was written since: how long ago, such as 10m, or a time, such as 2026-11-23T15:30:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Start each line with its time.
    #[arg(long)]
    pub timestamps: bool,

    /// Only the node of this rank.
    #[arg(long, value_name = "RANK")]
    pub node: Option<u32>,

    /// End with the exit code of the task; with --node, of that node.
    #[arg(long, conflicts_with = "no_follow")]
    pub exit_code: bool,

    #[command(flatten)]
    pub url: ShortUrl,
}

/// `k8s-cli jobs wait`.
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// Identifiers, their beginnings, or names.
    #[arg(required = true, value_name = "TASK", add = ArgValueCandidates::new(completions::tasks))]
    pub tasks: Vec<String>,

    /// What to wait for: done (it has ended), completed (with success), failed, running (or ended already).
    #[arg(
        long = "for",
        value_enum,
        default_value_t,
        value_name = "STATE",
        hide_possible_values = true
    )]
    pub condition: Conditions,

    /// How long to wait, such as 90s or 1h30m; for ever when absent.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,

    /// Say nothing.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Conditions {
    /// It has ended, in either way.
    #[default]
    Done,
    /// It has ended with success.
    #[value(alias = "succeeded")]
    Completed,
    /// It has failed.
    Failed,
    /// It runs, or has ended already.
    Running,
}

/// `k8s-cli jobs top`.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Only these tasks: identifiers, their beginnings, or names.
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(completions::tasks))]
    pub tasks: Vec<String>,

    /// Tasks of all users.
    #[arg(short = 'u', long)]
    pub all_users: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let wrong = |_| format!("`{text}` is no time; write it like 90s or 1h30m");
    let signed: SignedDuration = text.parse().map_err(wrong)?;
    Duration::try_from(signed).map_err(|_| format!("`{text}` is in the past"))
}
