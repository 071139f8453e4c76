//! `k8s-cli volumes list`, of volumes or of the files in one.

use task::wire::VolumeStatus;

use super::show_files::{self, Show};
use crate::args::ListVolumesArgs;
use crate::context::Context;
use crate::error::Result;
use crate::output::ListView;
use crate::resources::{list, print_list};

pub(crate) async fn run(context: &Context, args: ListVolumesArgs) -> Result<()> {
    if let Some(path) = &args.path {
        return show_files::run(context, Show::Files, path).await;
    }
    let volumes = list::<VolumeStatus>(&context.client, args.all_users).await?;
    let view = ListView::of_list(&args.format, args.all_users, context.terminal);
    print_list(&volumes, &view, &context.user.name, "")
}
