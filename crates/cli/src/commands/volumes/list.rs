//! `k8s-cli volumes list`.

use task::wire::VolumeStatus;

use crate::args::{Format, ListVolumesArgs};
use crate::context::Context;
use crate::error::Result;
use crate::output::{ListView, print_items};
use crate::resources::{list, print_none_found};

pub async fn run(context: &Context, args: ListVolumesArgs) -> Result<()> {
    let volumes = list::<VolumeStatus>(&context.client, args.all_users).await?;
    let view = ListView {
        format: args.format.format(),
        all_users: args.all_users,
        headers: !args.format.no_headers,
        terminal: context.terminal,
    };
    if volumes.is_empty() && matches!(view.format, Format::Table | Format::Wide) {
        print_none_found::<VolumeStatus>(args.all_users, &context.user.name, "");
        return Ok(());
    }
    print_items(&volumes, &view)
}
