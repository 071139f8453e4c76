//! Arguments of `k8s-cli volumes`.

use clap::Subcommand;

use super::help;
use super::jobs::ShortUrlArgs;
use super::output::{Format, ListOutputArgs, OutputArgs};
use super::volume_path::{CopyPlace, VolumePath};

#[derive(Debug, Subcommand)]
pub(crate) enum VolumesCommand {
    /// Create a volume.
    #[command(after_help = help::CREATE)]
    Create(CreateVolumeArgs),
    /// List your volumes, or the files in one.
    #[command(visible_alias = "ls", after_help = help::VOLUMES_LIST)]
    List(ListVolumesArgs),
    /// Show how much space the files in a volume take.
    #[command(after_help = help::DU)]
    Du(VolumeUsageArgs),
    /// Copy files and folders to or from a volume.
    #[command(visible_alias = "copy", after_help = help::CP)]
    Cp(CopyArgs),
    /// Show details of volumes.
    #[command(visible_alias = "describe")]
    Status(VolumeStatusArgs),
    /// Delete volumes and their data. A volume in use is deleted once its tasks finish.
    #[command(visible_alias = "rm")]
    Delete(DeleteVolumesArgs),
}

impl VolumesCommand {
    /// The value of `-u URL`. Only some commands have it: elsewhere `-u` means `--all-users`.
    pub(crate) fn short_url(&self) -> Option<&str> {
        let url = match self {
            Self::Create(args) => &args.url,
            Self::Status(args) => &args.url,
            Self::Delete(args) => &args.url,
            Self::List(_) | Self::Du(_) | Self::Cp(_) => return None,
        };
        url.short_api_url.as_deref()
    }

    pub(crate) fn format(&self) -> Option<Format> {
        match self {
            Self::List(args) => Some(args.format.format()),
            Self::Status(args) => Some(args.output.format),
            Self::Create(_) | Self::Du(_) | Self::Cp(_) | Self::Delete(_) => None,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct CreateVolumeArgs {
    /// Name by which tasks refer to the volume.
    pub name: String,

    /// Size, e.g., 10Gi or 100GB. A plain number is in GiB.
    pub size: String,

    /// Storage class. Defaults to the default class of the cluster.
    #[arg(short, long, value_name = "NAME")]
    pub storage_class: Option<String>,

    /// Access modes, separated by commas: `ReadWriteOnce`, `ReadOnlyMany`, `ReadWriteMany`, `ReadWriteOncePod`.
    #[arg(short, long, value_delimiter = ',', value_name = "MODES")]
    pub access_modes: Vec<String>,

    /// Print only the volume ID.
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub url: ShortUrlArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListVolumesArgs {
    /// List the files in this folder of a volume. A short-lived task reads them.
    #[arg(
        value_name = "VOLUME[:PATH]",
        conflicts_with_all = ["all_users", "format", "details", "quiet", "no_headers"]
    )]
    pub path: Option<VolumePath>,

    /// List volumes of all users.
    #[arg(short = 'u', long)]
    pub all_users: bool,

    #[command(flatten)]
    pub format: ListOutputArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeUsageArgs {
    /// Volume, or a folder in it. A short-lived task reads it.
    #[arg(value_name = "VOLUME[:PATH]")]
    pub path: VolumePath,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// File or folder: a path, or VOLUME:PATH.
    #[arg(value_name = "SRC")]
    pub source: CopyPlace,

    /// Path of the copy, or VOLUME:PATH. If it ends with `/`, it is a folder in which the copy keeps its name.
    #[arg(value_name = "DST")]
    pub target: CopyPlace,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeStatusArgs {
    /// Volume IDs, ID prefixes, or names.
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,

    #[command(flatten)]
    pub output: OutputArgs,

    #[command(flatten)]
    pub url: ShortUrlArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DeleteVolumesArgs {
    /// Volume IDs, ID prefixes, or names.
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,

    /// Don't ask for confirmation.
    #[arg(short, long, visible_alias = "yes", short_alias = 'y')]
    pub force: bool,

    /// Treat "volume not found" as success.
    #[arg(long)]
    pub ignore_not_found: bool,

    #[command(flatten)]
    pub url: ShortUrlArgs,
}
