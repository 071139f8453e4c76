//! Carries out the steps from `decide` whenever a task of a group changes.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::sleep;

use super::decide::{Step, decide};
use super::member::{Member, members};
use crate::cache::{GroupKey, GroupMember, TaskKey};
use crate::controller::ControllerContext;
use crate::error::Error;
use crate::gang::{self, StartOutcome};
use crate::kubernetes::ConfigMap;

/// How many groups, and how many tasks of each, are worked on concurrently.
const CONCURRENT_GROUPS: usize = 8;
const CONCURRENT_TASKS: usize = 8;

/// How soon to look at a group again after another server changed one of its tasks, or after a step failed.
const RETRY_AFTER_CONFLICT: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(2);

/// How often to check whether the cache is up to date again.
const HEALTH_CHECK: Duration = Duration::from_secs(1);

/// Works on all groups until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let stop = context.stop.clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = run_forever(context) => {}
    }
}

async fn run_forever(context: ControllerContext) {
    loop {
        context.cache.groups_changed().await;
        // An outdated cache must not be acted on. The changes stay queued.
        while context.health.check().is_err() {
            sleep(HEALTH_CHECK).await;
        }
        let groups = context.cache.take_changed_groups();
        stream::iter(groups)
            .for_each_concurrent(CONCURRENT_GROUPS, async |group| {
                if let Some(pause) = work_on(&context, &group).await {
                    requeue(&context, group, pause);
                }
            })
            .await;
    }
}

/// Takes the steps of a group; returns after which time to look again if one of them did not succeed.
async fn work_on(context: &ControllerContext, key: &GroupKey) -> Option<Duration> {
    let members = members(&context.cache, key);
    let steps = decide(&members);
    let results = stream::iter(steps)
        .map(|step| take(context, &members, step))
        .buffered(CONCURRENT_TASKS);
    let results: Vec<Result<Option<Duration>, Error>> = results.collect().await;
    let pause = |result: Result<Option<Duration>, Error>| match result {
        Ok(pause) => pause,
        Err(error) => {
            let group_id = &key.id;
            context.warn(&format!("group {group_id} {error}"), || {
                tracing::warn!(%group_id, %error, "failed to move a group of tasks on; retrying");
            });
            Some(RETRY)
        }
    };
    results.into_iter().filter_map(pause).min()
}

async fn take(context: &ControllerContext, members: &[Member], step: Step) -> Result<Option<Duration>, Error> {
    let (client, cache) = (&context.client, &context.cache);
    tracing::debug!(?step, "taking a step for a group");
    match step {
        Step::Start(key) => {
            let outcome = gang::start_held(client, cache, &key).await?;
            Ok((outcome == StartOutcome::Changed).then_some(RETRY_AFTER_CONFLICT))
        }
        Step::Cancel(tasks) => cancel_all(context, tasks).await,
        Step::CancelIfGone { index, tasks } => match members.first() {
            Some(member) if !exists(context, &member.group, index).await? => cancel_all(context, tasks).await,
            // It is still being created, or a watch lags.
            _ => Ok(Some(RETRY)),
        },
    }
}

async fn cancel_all(context: &ControllerContext, tasks: Vec<Arc<TaskKey>>) -> Result<Option<Duration>, Error> {
    // The last one first, so that none can start meanwhile.
    for key in tasks.iter().rev() {
        gang::cancel(&context.client, &context.cache, key).await?;
        tracing::info!(event = "task_skipped", task_id = %key.id, "a task before this one did not complete; it was canceled");
    }
    Ok(None)
}

/// Whether Kubernetes has the owner of the task at `index`.
async fn exists(context: &ControllerContext, group: &GroupMember, index: u32) -> Result<bool, Error> {
    let name = group.owner_name_of(index);
    let owner = context
        .client
        .get::<ConfigMap>("look up a task of the group", &name)
        .await?;
    Ok(owner.is_some_and(|owner| owner.metadata.deletion_timestamp.is_none()))
}

fn requeue(context: &ControllerContext, group: GroupKey, after: Duration) {
    let cache = Arc::clone(&context.cache);
    tokio::spawn(async move {
        sleep(after).await;
        cache.requeue_group(group);
    });
}
