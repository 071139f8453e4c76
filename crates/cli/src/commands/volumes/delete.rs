//! `k8s-cli volumes delete`.

use task::wire::VolumeStatus;

use crate::args::Delete;
use crate::client::Removed;
use crate::commands::{confirm, remove_each};
use crate::context::Context;
use crate::error::Result;
use crate::output::plural;
use crate::things::find_all;

pub async fn run(context: &Context, args: Delete) -> Result<()> {
    let volumes = find_all::<VolumeStatus>(&context.client, &args.volumes, args.ignore_not_found).await?;
    if volumes.is_empty() {
        return Ok(());
    }
    if !args.force {
        let names: Vec<String> = volumes.iter().map(|kept| format!("`{}`", kept.item.name)).collect();
        let which = plural(volumes.len(), "volume");
        confirm(
            &format!("delete {which} with all data ({})", names.join(", ")),
            "--force",
        )?;
    }
    let ids: Vec<&str> = volumes.iter().map(|kept| kept.item.volume_id.as_str()).collect();
    let delete = async |id: &str| context.client.delete::<Removed>(&format!("/volumes/{id}")).await;
    remove_each("volume", "deleted", &ids, delete).await
}
