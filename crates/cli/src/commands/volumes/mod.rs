//! `k8s-cli volumes`.

mod create;
mod delete;

use task::wire::VolumeStatus;

use crate::args::{Format, ListVolumes, ShowVolumes, VolumesCommand};
use crate::context::Context;
use crate::error::Result;
use crate::output::{describe_volume, print, print_items, print_one};
use crate::things::{find_all, list, say_none};

pub async fn run(context: Context, command: VolumesCommand) -> Result<()> {
    match command {
        VolumesCommand::Create(args) => create::run(&context, args).await,
        VolumesCommand::List(args) => list_volumes(&context, args).await,
        VolumesCommand::Status(args) => show(&context, args).await,
        VolumesCommand::Delete(args) => delete::run(&context, args).await,
    }
}

async fn list_volumes(context: &Context, args: ListVolumes) -> Result<()> {
    let volumes = list::<VolumeStatus>(&context.client, args.all_users).await?;
    let format = args.format.format();
    if volumes.is_empty() && matches!(format, Format::Table | Format::Wide) {
        say_none::<VolumeStatus>(args.all_users, &context.user.name, "");
        return Ok(());
    }
    print_items(
        &volumes,
        format,
        args.all_users,
        !args.format.no_headers,
        context.terminal,
    )
}

async fn show(context: &Context, args: ShowVolumes) -> Result<()> {
    let volumes = find_all::<VolumeStatus>(&context.client, &args.volumes, false).await?;
    match (args.output.format, volumes.as_slice()) {
        (Format::Table | Format::Wide, _) => {
            let wide = args.output.format == Format::Wide;
            let texts: Vec<String> = volumes.iter().map(|kept| describe_volume(&kept.item, wide)).collect();
            print(&texts.join("\n"))
        }
        (Format::Json | Format::Yaml, [volume]) => print_one(volume, args.output.format),
        (format, volumes) => print_items(volumes, format, false, true, context.terminal),
    }
}
