//! Stops or cancels the tasks and groups that the user names.

use crate::client::RemoveResponse;
use crate::commands::remove::remove_each;
use crate::context::Context;
use crate::error::Result;
use crate::resources::{Ambiguity, find_targets};

/// Does `action`, the last segment of the path, to each task and group. `participle` says so in messages.
pub(super) async fn end_each(
    context: &Context,
    references: &[String],
    ignore_not_found: bool,
    (action, participle): (&str, &str),
) -> Result<()> {
    let targets = find_targets(&context.client, references, ignore_not_found, Ambiguity::IsAnError).await?;
    let paths = targets
        .iter()
        .map(|target| (target.id(), format!("{}/{action}", target.path())));
    let all: Vec<(&str, String)> = paths.collect();
    let end = async |path: &str| context.client.post::<RemoveResponse>(path).await;
    remove_each("task", participle, &all, end).await
}
