//! Arguments of `k8s-cli jobs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use glob::Pattern;
use jiff::SignedDuration;
use task::TaskState;

use super::help;
use super::output::{Format, ListOutputArgs, OutputArgs};
use super::submit_output::{self, SubmitOutput};
use crate::task_file::{Overrides, SweepArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// Submit a task and follow its log until it finishes.
    #[command(visible_alias = "launch", after_help = help::SUBMIT)]
    Submit(Box<SubmitArgs>),
    /// List your tasks.
    #[command(visible_alias = "ls", aliases = ["queue", "ps"], after_help = help::LIST)]
    List(ListArgs),
    /// Show details of tasks and their nodes.
    #[command(visible_alias = "describe")]
    Status(StatusArgs),
    /// Stop and delete tasks; records and logs stay if the server has an archive. Processes receive SIGTERM, then SIGKILL
    /// after 30 seconds.
    #[command(visible_alias = "rm", alias = "delete")]
    Stop(StopArgs),
    /// Cancel tasks and keep their status and logs. Processes receive SIGTERM, then SIGKILL after 30 seconds.
    Cancel(CancelArgs),
    /// Print the combined log of all nodes of a task and follow it until the task finishes.
    #[command(after_help = help::LOGS)]
    Logs(LogsArgs),
    /// Download the outputs of a task.
    #[command(after_help = help::OUTPUTS)]
    Outputs(OutputsArgs),
    /// Wait for tasks to reach a state.
    #[command(after_help = help::WAIT)]
    Wait(WaitArgs),
    /// Show a live view of your tasks with the last log line of each node.
    Top(TopArgs),
}

impl JobsCommand {
    /// The value of `-u URL`. Only some commands have it: elsewhere `-u` means `--all-users`.
    pub(crate) fn short_url(&self) -> Option<&str> {
        let url = match self {
            Self::Submit(args) => &args.url,
            Self::Status(args) => &args.url,
            Self::Logs(args) => &args.url,
            Self::List(_) | Self::Stop(_) | Self::Cancel(_) | Self::Outputs(_) | Self::Wait(_) | Self::Top(_) => {
                return None;
            }
        };
        url.short_api_url.as_deref()
    }

    pub(crate) fn format(&self) -> Option<Format> {
        match self {
            Self::Submit(args) => submit_output::format(&args.output),
            Self::List(args) => Some(args.format.format()),
            Self::Status(args) => Some(args.output.format),
            Self::Stop(_) | Self::Cancel(_) | Self::Logs(_) | Self::Outputs(_) | Self::Wait(_) | Self::Top(_) => None,
        }
    }
}

/// `-u URL`, kept for compatibility with the Python CLI.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ShortUrlArgs {
    #[arg(short = 'u', value_name = "URL", hide = true)]
    pub short_api_url: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    /// Task file in YAML; use `-` to read from standard input.
    #[arg(required_unless_present = "command", conflicts_with = "command", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,

    /// Command to run instead of a task file.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,

    /// Return once the task is submitted, without following its log.
    #[arg(short, long, alias = "detach-run")]
    pub detach: bool,

    /// Print only the ID of the task or group. Implies --detach.
    #[arg(short, long)]
    pub quiet: bool,

    /// Exit with the exit code of the task instead of 100 if it fails.
    #[arg(long, conflicts_with_all = ["detach", "quiet"])]
    pub exit_code: bool,

    /// Exit with 0 even if the task fails or is stopped.
    #[arg(long, conflicts_with_all = ["detach", "quiet", "exit_code"])]
    pub no_exit_code: bool,

    /// Validate the task on the server and print its manifests without creating anything. Still uploads the task's
    /// files.
    #[arg(long, alias = "dryrun", conflicts_with_all = ["detach", "quiet", "exit_code", "no_exit_code"])]
    pub dry_run: bool,

    /// Path on the first node to keep when the task ends, e.g., ./results; download it with `jobs outputs`; can be
    /// repeated. Or the output format for --dry-run or --detach: yaml, json.
    #[arg(short, long, value_name = "PATH|FORMAT")]
    pub output: Vec<SubmitOutput>,

    /// Return the existing task if one was already submitted with this key. Defaults to a random key.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,

    #[command(flatten)]
    pub overrides: Overrides,

    #[command(flatten)]
    pub sweep: SweepArgs,

    #[command(flatten)]
    pub url: ShortUrlArgs,

    #[command(flatten)]
    pub skypilot: NoEffectArgs,
}

/// Flags of `sky launch` that stand in many scripts, and have nothing to do here: a submit asks no questions, waits
/// until there are resources, and releases the nodes when the task finishes.
#[derive(Debug, clap::Args)]
pub(crate) struct NoEffectArgs {
    #[arg(short, long, hide = true)]
    yes: bool,

    #[arg(long, hide = true)]
    down: bool,

    #[arg(short, long, hide = true)]
    retry_until_up: bool,

    #[arg(short, long, hide = true, value_name = "MINUTES")]
    idle_minutes_to_autostop: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// List tasks of all users.
    #[arg(short = 'u', long)]
    pub all_users: bool,

    /// Show only tasks in these states, separated by commas: pending, running, completed, failed.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "STATES",
        hide_possible_values = true
    )]
    pub status: Vec<StatusFilter>,

    /// Show only tasks whose name matches this pattern, e.g., 'lr-*'.
    #[arg(long, value_name = "GLOB")]
    pub name: Option<Pattern>,

    /// Show only the last N tasks.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,

    /// Include tasks that were stopped or deleted, newest first. The server keeps their records if it has an archive.
    #[arg(short, long)]
    pub all: bool,

    /// Show only tasks submitted within a relative duration, e.g., 7d, or since a timestamp. Implies --all.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Show only tasks submitted before a relative duration, e.g., 1d, or a timestamp. Implies --all.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,

    /// Show only tasks with this text in their name or message. Implies --all.
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,

    /// Sort key. One of: age (oldest first), name, status, nodes, user.
    #[arg(long, value_enum, default_value_t, value_name = "KEY", hide_possible_values = true)]
    pub sort_by: SortKey,

    /// After listing tasks, watch for changes.
    #[arg(short, long)]
    pub watch: bool,

    #[command(flatten)]
    pub format: ListOutputArgs,
}

impl ListArgs {
    /// Whether to list past tasks as well.
    pub(crate) fn includes_past(&self) -> bool {
        self.all || self.since.is_some() || self.until.is_some() || self.search.is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFilter {
    /// Not started yet.
    Pending,
    /// At least one container is running.
    Running,
    /// Every node succeeded.
    #[value(alias = "succeeded")]
    Completed,
    /// A node failed.
    Failed,
}

impl StatusFilter {
    /// The state of the API.
    pub(crate) fn state(self) -> TaskState {
        match self {
            Self::Pending => TaskState::Pending,
            Self::Running => TaskState::Running,
            Self::Completed => TaskState::Completed,
            Self::Failed => TaskState::Failed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum SortKey {
    /// Oldest first.
    #[default]
    #[value(alias = "created")]
    Age,
    /// By name.
    Name,
    /// By status.
    Status,
    /// By number of nodes, fewest first.
    Nodes,
    /// By user.
    User,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Task IDs, ID prefixes, or names.
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<String>,

    #[command(flatten)]
    pub output: OutputArgs,

    #[command(flatten)]
    pub url: ShortUrlArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// Task IDs, ID prefixes, or names.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "TASK")]
    pub tasks: Vec<String>,

    /// Stop all of your tasks.
    #[arg(long)]
    pub all: bool,

    /// With --all, stop the tasks of all users.
    #[arg(short = 'u', long, requires = "all", conflicts_with = "tasks")]
    pub all_users: bool,

    /// Don't ask for confirmation.
    #[arg(short, long)]
    pub yes: bool,

    /// Treat "task not found" as success.
    #[arg(long)]
    pub ignore_not_found: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Task IDs, ID prefixes, or names.
    #[arg(required_unless_present_any = ["all", "name"], conflicts_with = "all", value_name = "TASK")]
    pub tasks: Vec<String>,

    /// Cancel all of your unfinished tasks.
    #[arg(short, long)]
    pub all: bool,

    /// With --all, cancel the tasks of all users.
    #[arg(short = 'u', long, requires = "all", conflicts_with = "tasks")]
    pub all_users: bool,

    // A flag of `sky jobs cancel`.
    #[arg(short, long, hide = true, conflicts_with = "all")]
    pub name: Option<String>,

    /// Don't ask for confirmation.
    #[arg(short, long)]
    pub yes: bool,

    /// Treat "task not found" as success.
    #[arg(long)]
    pub ignore_not_found: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// Task ID, ID prefix, or name. Defaults to your last task.
    #[arg(value_name = "TASK")]
    pub task: Option<String>,

    /// Follow the log until the task finishes (default).
    #[arg(short, long, overrides_with = "follow")]
    follow: bool,

    /// Print the log so far and exit.
    #[arg(long, conflicts_with = "follow")]
    pub no_follow: bool,

    /// Number of recent lines to show for each node.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,

    /// Show only lines newer than a relative duration, e.g., 10m, or a timestamp, e.g., 2026-11-23T15:30:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,

    /// Prefix each line with its timestamp.
    #[arg(long)]
    pub timestamps: bool,

    /// Show only the node with this rank.
    #[arg(long, value_name = "RANK")]
    pub node: Option<u32>,

    /// Exit with the exit code of the task or, with --node, of that node.
    #[arg(long, conflicts_with = "no_follow")]
    pub exit_code: bool,

    #[command(flatten)]
    pub url: ShortUrlArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OutputsArgs {
    /// Task ID, ID prefix, or name.
    #[arg(value_name = "TASK")]
    pub task: String,

    /// Folder to write to. Other files in it stay.
    #[arg(value_name = "DIR", default_value = ".", value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,

    /// Show the names and sizes of the files instead.
    #[arg(short, long, conflicts_with = "dir")]
    pub list: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Task IDs, ID prefixes, or names.
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<String>,

    /// State to wait for. One of: done (completed or failed), completed, failed, running (or already finished).
    #[arg(
        long = "for",
        value_enum,
        default_value_t,
        value_name = "STATE",
        hide_possible_values = true
    )]
    pub condition: WaitCondition,

    /// Time to wait before giving up, e.g., 90s or 1h30m. Waits indefinitely by default.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Don't print how each task ended.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum WaitCondition {
    /// Completed or failed.
    #[default]
    Done,
    /// Every node succeeded.
    #[value(alias = "succeeded")]
    Completed,
    /// A node failed.
    Failed,
    /// Running, or already finished.
    Running,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// Show only these tasks: task IDs, ID prefixes, or names.
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,

    /// Show tasks of all users.
    #[arg(short = 'u', long)]
    pub all_users: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let invalid = |_| format!("invalid duration `{text}`; expected, e.g., `90s` or `1h30m`");
    let signed: SignedDuration = text.parse().map_err(invalid)?;
    Duration::try_from(signed).map_err(|_| format!("invalid duration `{text}`; must not be negative"))
}
