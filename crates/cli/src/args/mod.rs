//! Commands, flags, and their help. Parsing does no I/O.

mod api;
mod command;
mod help;
mod jobs;
mod output;
mod suggestions;
mod volumes;

pub use api::ApiCommand;
pub use command::{Args, AuthCommand, Color, Command, GlobalArgs};
pub use jobs::{
    JobsCommand, ListArgs, LogsArgs, SortKey, StatusArgs, StatusFilter, StopArgs, SubmitArgs, TopArgs, WaitArgs,
    WaitCondition,
};
pub use output::{Format, ListOutputArgs};
pub use suggestions::suggest;
pub use volumes::{CreateVolumeArgs, DeleteVolumesArgs, ListVolumesArgs, VolumeStatusArgs, VolumesCommand};
