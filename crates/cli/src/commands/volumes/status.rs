//! `k8s-cli volumes status`: describes volumes.

use task::wire::VolumeStatus;

use crate::args::{Format, VolumeStatusArgs};
use crate::context::Context;
use crate::error::Result;
use crate::output::{ListView, describe_volume, print, print_item, print_items};
use crate::resources::{Ambiguity, find_all};

pub(crate) async fn run(context: &Context, args: VolumeStatusArgs) -> Result<()> {
    let volumes = find_all::<VolumeStatus>(&context.client, &args.volumes, false, Ambiguity::NeedsId).await?;
    match (args.output.format, volumes.as_slice()) {
        (Format::Table | Format::Wide, _) => {
            let wide = args.output.format == Format::Wide;
            let texts: Vec<String> = volumes
                .iter()
                .map(|volume| describe_volume(&volume.item, wide))
                .collect();
            print(&texts.join("\n"))
        }
        (Format::Json | Format::Yaml, [volume]) => print_item(volume, args.output.format),
        (format, volumes) => print_items(volumes, &ListView::new(format, context.terminal)),
    }
}
