//! `k8s-cli volumes list`.

use task::wire::VolumeStatus;

use crate::args::ListVolumesArgs;
use crate::context::Context;
use crate::error::Result;
use crate::output::ListView;
use crate::resources::{list, print_list};

pub(crate) async fn run(context: &Context, args: ListVolumesArgs) -> Result<()> {
    let volumes = list::<VolumeStatus>(&context.client, args.all_users).await?;
    let view = ListView::of_list(&args.format, args.all_users, context.terminal);
    print_list(&volumes, &view, &context.user.name, "")
}
