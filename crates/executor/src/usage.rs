//! Sums what past and present tasks used.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use archive::{RecordKey, UsageFilter};
use jiff::Timestamp;
use task::record::{UsageReport, UserUsage};

use crate::archiving::live_record;
use crate::cache::TaskSnapshot;
use crate::error::Error;
use crate::history::Sources;
use crate::record_key::record_key;

/// What the tasks that match used, by user. Tasks that run are counted up to now.
pub(crate) async fn report(sources: &Sources<'_>, filter: UsageFilter) -> Result<UsageReport, Error> {
    let live: Vec<(RecordKey, Arc<TaskSnapshot>)> = sources
        .present(|snapshot| matches(snapshot, &filter))
        .into_iter()
        .map(|snapshot| (record_key(&snapshot), snapshot))
        .collect();
    let (mut archived, mut counted) = (Vec::new(), HashSet::new());
    if let Some(archive) = sources.archive {
        archived = archive.usage(filter).await?;
        let keys: Vec<RecordKey> = live.iter().map(|(key, _)| key.clone()).collect();
        counted = archive.indexed(&keys).await?;
    }
    let now = sources.now;
    let summed = tokio::task::spawn_blocking(move || {
        let live = live.into_iter().filter(|(key, _)| !counted.contains(key.as_str()));
        sum(archived, live.map(|(_, snapshot)| snapshot), now)
    });
    // The runtime cancels a blocking call only when it shuts down.
    let users = summed.await.unwrap_or_default();
    Ok(UsageReport { users })
}

fn matches(snapshot: &TaskSnapshot, filter: &UsageFilter) -> bool {
    filter.user.as_ref().is_none_or(|user| *user == snapshot.username)
        && filter.since.is_none_or(|since| snapshot.created_at >= since)
        && filter.until.is_none_or(|until| snapshot.created_at < until)
}

/// Adds what live tasks used.
fn sum(archived: Vec<UserUsage>, live: impl Iterator<Item = Arc<TaskSnapshot>>, now: Timestamp) -> Vec<UserUsage> {
    let by_user = archived.into_iter().map(|user| (user.username.clone(), user));
    let mut by_user: BTreeMap<String, UserUsage> = by_user.collect();
    for snapshot in live {
        let Some(record) = live_record(&snapshot, now) else {
            continue;
        };
        let username = record.task.username;
        let user = by_user.entry(username.clone()).or_insert_with(|| UserUsage {
            username,
            tasks: 0,
            usage: task::record::Usage::default(),
        });
        user.tasks += 1;
        user.usage += record.usage;
    }
    by_user.into_values().collect()
}
