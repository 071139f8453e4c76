//! Removes a group whose submit failed, and that nobody can ask for again because it has no `Idempotency-Key`.

use tokio::time::{Instant, sleep, timeout};

use crate::cache::{GroupMember, TaskOwner};
use crate::error::Error;
use crate::kubernetes::{ApiClient, ConfigMap};
use crate::labels;
use crate::rollback::{IN_FLIGHT, PATIENCE, PAUSE};

const ACTION: &str = "clean up after a failed submit of a group";

/// Deletes the owners of all tasks, in any version. Kubernetes deletes what they own.
pub(super) async fn undo(client: &ApiClient, group: &GroupMember) {
    let first = timeout(PATIENCE, undo_once(client, group)).await;
    if let Ok(Err(error)) = &first {
        tracing::warn!(group_id = %group.group_id, %error, "failed to remove a group; retrying");
    }
    let (client, group, start) = (client.clone(), group.clone(), Instant::now());
    tokio::spawn(async move {
        while start.elapsed() < IN_FLIGHT {
            sleep(PAUSE).await;
            let _ = undo_once(&client, &group).await;
        }
    });
}

async fn undo_once(client: &ApiClient, group: &GroupMember) -> Result<(), Error> {
    let selector = format!("{}={}", labels::GROUP_ID, group.group_id);
    for owner in client.list::<ConfigMap>(ACTION, &selector).await? {
        let Ok(owner) = TaskOwner::from_metadata(&owner.metadata) else {
            continue;
        };
        if owner.group.as_ref().is_some_and(|of| of.is_same_group(group)) {
            client
                .delete::<ConfigMap>(ACTION, owner.object_ref().any_version())
                .await?;
        }
    }
    Ok(())
}
