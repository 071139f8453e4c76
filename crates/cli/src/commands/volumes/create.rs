//! `k8s-cli volumes create`.

use serde_json::json;
use task::wire::VolumeStatus;

use crate::args::Create;
use crate::client;
use crate::context::Context;
use crate::error::{Error, Fault, Result};
use crate::output::{print, say, warn};
use crate::things::list;

pub async fn run(context: &Context, args: Create) -> Result<()> {
    let Create {
        name,
        size,
        storage_class,
        access_modes,
        quiet,
        url: _,
    } = args;
    let mut body = json!({"name": name, "size": size});
    if let Some(class) = storage_class {
        body["storage_class"] = json!(class);
    }
    if !access_modes.is_empty() {
        body["access_modes"] = json!(access_modes);
    }
    let create = async || context.client.create::<client::Created>("/volumes/create", &body).await;
    let created = match context.with_server(create).await {
        Err(Error::Invalid { faults, .. }) => return Err(Error::Usage(as_typed(&faults))),
        created => created?,
    };
    print(&created.volume_id)?;
    let volumes = list::<VolumeStatus>(&context.client, false).await?;
    // A name selects the oldest volume; the list starts with the oldest.
    let oldest = volumes.iter().map(|kept| &kept.item).find(|volume| volume.name == name);
    if let Some(other) = oldest.filter(|oldest| oldest.volume_id != created.volume_id) {
        warn(&format!(
            "volume {} is also named `{name}`, and tasks that reference `{name}` use that one; use `{}` to mount the new one",
            other.volume_id, created.volume_id
        ));
    } else if !quiet {
        say(&format!(
            "created volume `{name}`; mount it with `k8s-cli jobs submit task.yaml --volume {name}:/data`"
        ));
    }
    Ok(())
}

/// Reports invalid values under the names of their arguments.
fn as_typed(faults: &[Fault]) -> String {
    let typed = faults.iter().map(|fault| {
        let path = fault.path();
        let word = match path.first().map(String::as_str) {
            Some("name") => "NAME",
            Some("size") => "SIZE",
            Some("storage_class") => "--storage-class",
            Some("access_modes") => "--access-modes",
            _ => return fault.to_string(),
        };
        format!("`{word}`: {}", fault.message())
    });
    typed.collect::<Vec<_>>().join("; ")
}
