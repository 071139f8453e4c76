//! Commands, flags, and their help. Parsing does no I/O.

mod api;
mod command;
mod help;
mod jobs;
mod output;
mod submit_output;
mod suggestions;
mod volume_path;
mod volumes;

pub(crate) use api::ApiCommand;
pub(crate) use command::{Args, AuthCommand, Color, Command, GlobalArgs, GpusArgs, UsageArgs};
pub(crate) use jobs::{
    CancelArgs, JobsCommand, ListArgs, LogsArgs, OutputsArgs, SortKey, StatusArgs, StopArgs, SubmitArgs, TopArgs,
    WaitArgs, WaitCondition,
};
pub(crate) use output::{Format, ListOutputArgs, ReportFormat};
pub(crate) use submit_output::{format as format_of, paths as paths_of};
pub(crate) use suggestions::suggest;
pub(crate) use volume_path::{CopyPlace, VolumePath};
pub(crate) use volumes::{
    CopyArgs, CreateVolumeArgs, DeleteVolumesArgs, ListVolumesArgs, VolumeStatusArgs, VolumesCommand,
};
