//! `k8s-cli volumes create`: creates a volume, and warns about a name that already exists.

use serde_json::json;
use task::wire::VolumeStatus;

use crate::args::CreateVolumeArgs;
use crate::client::CreateVolumeResponse;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::field_error::FieldError;
use crate::output::{print, print_message, print_warning};
use crate::resources::list;

pub(crate) async fn run(context: &Context, args: CreateVolumeArgs) -> Result<()> {
    let CreateVolumeArgs {
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
    let create = async || {
        context
            .client
            .create::<CreateVolumeResponse>("/volumes/create", &body)
            .await
    };
    let created = match context.with_server(create).await {
        Err(Error::Invalid { errors, .. }) => return Err(Error::Usage(argument_errors(&errors))),
        created => created?,
    };
    print(&created.volume_id)?;
    let volumes = list::<VolumeStatus>(&context.client, false).await?;
    // A name selects the oldest volume; the list starts with the oldest.
    let oldest = volumes
        .iter()
        .map(|volume| &volume.item)
        .find(|volume| volume.name == name);
    if let Some(other) = oldest.filter(|oldest| oldest.volume_id != created.volume_id) {
        print_warning(&format!(
            "volume {} is also named `{name}`, and tasks that reference `{name}` use that one; use `{}` to mount the new one",
            other.volume_id, created.volume_id
        ));
    } else if !quiet {
        print_message(&format!(
            "created volume `{name}`; mount it with `k8s-cli jobs submit task.yaml --volume {name}:/data`"
        ));
    }
    Ok(())
}

/// Reports invalid values under the names of their arguments.
fn argument_errors(errors: &[FieldError]) -> String {
    let messages = errors.iter().map(|error| {
        let path = error.path();
        let argument = match path.first().map(String::as_str) {
            Some("name") => "NAME",
            Some("size") => "SIZE",
            Some("storage_class") => "--storage-class",
            Some("access_modes") => "--access-modes",
            _ => return error.to_string(),
        };
        format!("`{argument}`: {}", error.message())
    });
    messages.collect::<Vec<_>>().join("; ")
}
