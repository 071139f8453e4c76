//! `k8s-cli volumes ...`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::help;
use super::jobs::ShortUrl;
use super::output::{Format, ListFormat, Output};
use crate::commands::completions;

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumesCommand {
    /// Create a volume.
    #[command(after_help = help::CREATE)]
    Create(Create),
    /// List your volumes.
    #[command(visible_alias = "ls")]
    List(ListVolumes),
    /// Show volumes.
    #[command(visible_alias = "describe")]
    Status(ShowVolumes),
    /// Delete volumes and their data. One that tasks use goes when they end.
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

impl VolumesCommand {
    /// The `-u URL` of the commands that have it.
    pub fn short_url(&self) -> Option<&str> {
        let url = match self {
            Self::Create(args) => &args.url,
            Self::Status(args) => &args.url,
            Self::Delete(args) => &args.url,
            Self::List(_) => return None,
        };
        url.short_api_url.as_deref()
    }

    /// See [`super::Command::format`].
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::List(args) => Some(args.format.format()),
            Self::Status(args) => Some(args.output.format),
            Self::Create(_) | Self::Delete(_) => None,
        }
    }
}

/// `k8s-cli volumes create`.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// What tasks call it.
    pub name: String,

    /// How much it holds: 10Gi, 100GB; a number alone is GiB.
    pub size: String,

    /// Storage class; the cluster's default when absent.
    #[arg(short, long, value_name = "NAME")]
    pub storage_class: Option<String>,

    /// Access modes, separated by commas: `ReadWriteOnce`, `ReadOnlyMany`, `ReadWriteMany`, `ReadWriteOncePod`.
    #[arg(short, long, value_delimiter = ',', value_name = "MODES")]
    pub access_modes: Vec<String>,

    /// Print the identifier only.
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub url: ShortUrl,
}

/// `k8s-cli volumes list`.
#[derive(Debug, clap::Args)]
pub struct ListVolumes {
    /// Volumes of all users.
    #[arg(short = 'u', long)]
    pub all_users: bool,

    #[command(flatten)]
    pub format: ListFormat,
}

/// `k8s-cli volumes status`.
#[derive(Debug, clap::Args)]
pub struct ShowVolumes {
    /// Identifiers, their beginnings, or names.
    #[arg(required = true, value_name = "VOLUME", add = ArgValueCandidates::new(completions::volumes))]
    pub volumes: Vec<String>,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub url: ShortUrl,
}

/// `k8s-cli volumes delete`.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// Identifiers, their beginnings, or names.
    #[arg(required = true, value_name = "VOLUME", add = ArgValueCandidates::new(completions::volumes))]
    pub volumes: Vec<String>,

    /// Do not ask.
    #[arg(short, long, visible_alias = "yes", short_alias = 'y')]
    pub force: bool,

    /// A volume that is not there is no failure.
    #[arg(long)]
    pub ignore_not_found: bool,

    #[command(flatten)]
    pub url: ShortUrl,
}
