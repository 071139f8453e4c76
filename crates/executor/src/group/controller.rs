//! Carries out the steps from `decide` whenever a task of a group changes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt, stream};
use task::Execution;
use tokio::time::sleep;

use super::decide::{Step, decide};
use super::member::{Member, MemberState, members};
use crate::cache::{Cache, GroupKey, GroupMember, TaskKey};
use crate::controller::ControllerContext;
use crate::error::Error;
use crate::gang::{self, StartOutcome};
use crate::kubernetes::ConfigMap;

/// How many groups, and how many tasks of each, are worked on concurrently.
const CONCURRENT_GROUPS: usize = 16;
const CONCURRENT_TASKS: usize = 8;

/// How soon to look at a group again after another server changed one of its tasks, or after a step failed.
const RETRY_AFTER_CONFLICT: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(2);

/// How often to check whether the cache is up to date again.
const HEALTH_CHECK: Duration = Duration::from_secs(1);

/// How many ends of tasks are remembered before those of tasks that are gone are dropped.
const MANY_ENDS: usize = 10_000;

/// The tasks whose end Kubernetes has confirmed. An end is final, so it is asked for once.
type ConfirmedEnds = HashSet<Arc<TaskKey>>;

/// The result of working on a group.
struct Worked {
    group: GroupKey,
    confirmed: Vec<Arc<TaskKey>>,
    /// After which time to look again, if there is more to do.
    again: Option<Duration>,
}

/// Works on all groups until shutdown.
pub(crate) async fn run(context: ControllerContext) {
    let stop = context.stop.clone();
    stop.run_until_cancelled(run_forever(context)).await;
}

/// Works on each group separately, so that a slow one does not delay the others.
async fn run_forever(context: ControllerContext) {
    let ControllerContext { cache, health, .. } = &context;
    let mut busy: HashSet<GroupKey> = HashSet::new();
    let mut confirmed = ConfirmedEnds::new();
    let mut work = FuturesUnordered::new();
    loop {
        // The order is fixed, so that simulations are reproducible.
        tokio::select! {
            biased;
            Some(worked) = work.next() => finish(cache, &mut busy, &mut confirmed, worked),
            () = cache.groups_changed() => {}
            () = sleep(HEALTH_CHECK), if health.check().is_err() => {}
        }
        // An outdated cache must not be acted on. The changes stay queued.
        if health.check().is_err() {
            continue;
        }
        let limit = CONCURRENT_GROUPS.saturating_sub(busy.len());
        for group in cache.take_changed_groups(&busy, limit) {
            busy.insert(group.clone());
            let members = members(cache, &group);
            let unconfirmed = members.iter().filter(|member| needs_confirmation(member, &confirmed));
            let unconfirmed: HashSet<Arc<TaskKey>> = unconfirmed.map(|member| Arc::clone(&member.key)).collect();
            work.push(work_on(&context, group, members, unconfirmed));
        }
    }
}

fn finish(cache: &Arc<Cache>, busy: &mut HashSet<GroupKey>, confirmed: &mut ConfirmedEnds, worked: Worked) {
    busy.remove(&worked.group);
    confirmed.extend(worked.confirmed);
    if confirmed.len() > MANY_ENDS {
        confirmed.retain(|key| cache.contains(key));
    }
    if let Some(pause) = worked.again {
        let cache = Arc::clone(cache);
        tokio::spawn(async move {
            sleep(pause).await;
            cache.requeue_group(worked.group);
        });
    } else {
        // It may have changed while it was worked on.
        cache.notify_groups();
    }
}

/// Whether other tasks depend on the end of this one, and a cache that lags could show one that is not final.
fn needs_confirmation(member: &Member, confirmed: &ConfirmedEnds) -> bool {
    let has_ended = matches!(member.state, MemberState::Completed | MemberState::Failed);
    let decides = member.group.execution == Execution::Serial || member.recovers;
    has_ended && decides && !confirmed.contains(&member.key)
}

/// Takes the steps of a group.
async fn work_on(
    context: &ControllerContext,
    group: GroupKey,
    mut members: Vec<Member>,
    unconfirmed: HashSet<Arc<TaskKey>>,
) -> Worked {
    let again = |error: &Error| {
        let group_id = &group.id;
        context.warn(&format!("group {group_id} {error}"), || {
            tracing::warn!(%group_id, %error, "failed to move a group of tasks on; retrying");
        });
        Some(RETRY)
    };
    let (confirmed, unclear) = match confirm(context, &mut members, &unconfirmed).await {
        Ok(result) => result,
        Err(error) => {
            return Worked {
                again: again(&error),
                group,
                confirmed: Vec::new(),
            };
        }
    };
    let steps = decide(&members);
    let takes: Vec<_> = steps.into_iter().map(|step| take(context, &members, step)).collect();
    let results: Vec<Result<Option<Duration>, Error>> = stream::iter(takes).buffered(CONCURRENT_TASKS).collect().await;
    let pauses = results
        .into_iter()
        .filter_map(|result| result.unwrap_or_else(|error| again(&error)));
    let pause = pauses.chain(unclear.then_some(RETRY_AFTER_CONFLICT)).min();
    Worked {
        again: pause,
        confirmed,
        group,
    }
}

/// Reads from Kubernetes whether tasks have ended as the cache says. One that has not counts as active. Returns those
/// that have, and whether there were others.
async fn confirm(
    context: &ControllerContext,
    members: &mut [Member],
    unconfirmed: &HashSet<Arc<TaskKey>>,
) -> Result<(Vec<Arc<TaskKey>>, bool), Error> {
    let ask = |key: Arc<TaskKey>| async move {
        let outcome = gang::refetch_outcome(&context.client, &context.cache, &key).await?;
        Ok::<_, Error>((key, outcome))
    };
    let asks: Vec<_> = unconfirmed.iter().cloned().map(ask).collect();
    let answers: Vec<_> = stream::iter(asks).buffered(CONCURRENT_TASKS).try_collect().await?;
    let mut confirmed = Vec::new();
    for (key, outcome) in answers {
        let Some(member) = members.iter_mut().find(|member| member.key == key) else {
            continue;
        };
        member.state = MemberState::of_outcome(outcome);
        if outcome.is_some() {
            confirmed.push(key);
        }
    }
    let unclear = confirmed.len() < unconfirmed.len();
    Ok((confirmed, unclear))
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
            // A watch lags.
            _ => Ok(Some(RETRY)),
        },
    }
}

async fn cancel_all(context: &ControllerContext, tasks: Vec<Arc<TaskKey>>) -> Result<Option<Duration>, Error> {
    // The last one first, so that none can start meanwhile.
    for key in tasks.iter().rev() {
        gang::cancel(&context.client, &context.cache, key, None).await?;
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
