//! `k8s-cli volumes delete`: deletes volumes, once the user has confirmed it.

use task::wire::VolumeStatus;

use crate::args::DeleteVolumesArgs;
use crate::client::RemoveResponse;
use crate::commands::remove::{confirm, remove_each};
use crate::context::Context;
use crate::error::Result;
use crate::output::plural;
use crate::resources::{Ambiguity, find_all};

pub(crate) async fn run(context: &Context, args: DeleteVolumesArgs) -> Result<()> {
    let volumes = find_all::<VolumeStatus>(
        &context.client,
        &args.volumes,
        args.ignore_not_found,
        Ambiguity::IsAnError,
    )
    .await?;
    if volumes.is_empty() {
        return Ok(());
    }
    if !args.force {
        let names: Vec<String> = volumes.iter().map(|volume| format!("`{}`", volume.item.name)).collect();
        let count = plural(volumes.len(), "volume");
        confirm(
            &format!("delete {count} with all data ({})", names.join(", ")),
            "--force",
        )?;
    }
    let ids = volumes.iter().map(|volume| volume.item.volume_id.as_str());
    let all: Vec<(&str, String)> = ids.map(|id| (id, format!("/volumes/{id}"))).collect();
    let delete = async |path: &str| context.client.delete::<RemoveResponse>(path).await;
    remove_each("volume", "deleted", &all, delete).await
}
