//! Finds groups of tasks, and tasks where either is accepted.

use std::time::Duration;

use task::record::TaskRecord;
use task::wire::{TaskGroup, TaskStatus};
use tokio::time::{Instant, sleep};

use super::lookup::{Ambiguity, find_each, find_in, is_id, list, list_at, min_prefix};
use super::{find_record, get, percent_encode};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::output::{WithRaw, print_message};

/// What a reference on the command line names.
pub(crate) enum Target {
    Task(Box<WithRaw<TaskStatus>>),
    Group(Group),
}

/// A task, a group, or the record of a task that is gone.
pub(crate) enum ReadTarget {
    Present(Target),
    Past(Box<TaskRecord>),
}

impl ReadTarget {
    fn id(&self) -> &str {
        match self {
            Self::Present(target) => target.id(),
            Self::Past(record) => &record.task.task_id,
        }
    }
}

/// What a command that only reads shows: tasks, also after they were deleted, and groups.
///
/// # Errors
/// [`Error::NotFound`] if nothing matches, [`Error::Usage`] if the reference is ambiguous.
pub(crate) async fn find_read_target(client: &Client, reference: &str) -> Result<ReadTarget> {
    match find_target(client, reference, Ambiguity::TakesNewest).await {
        // A server without an archive, or an older one, has no record; then the first message is the better one.
        Err(Error::NotFound(message)) => match find_record(client, reference).await {
            Ok(record) => Ok(ReadTarget::Past(Box::new(record))),
            Err(Error::NotFound(_)) => Err(Error::NotFound(message)),
            Err(error) => Err(error),
        },
        found => found.map(ReadTarget::Present),
    }
}

/// Several of them in the given order, without duplicates.
pub(crate) async fn find_read_targets(client: &Client, references: &[String]) -> Result<Vec<ReadTarget>> {
    let find = async |reference: &str| find_read_target(client, reference).await;
    find_each(references, false, find, ReadTarget::id).await
}

/// A group of tasks.
pub(crate) struct Group {
    pub id: String,
    /// In the order of the group, without those that were stopped.
    pub tasks: Vec<WithRaw<TaskStatus>>,
}

/// The tasks of the group with this ID, in the order of the group.
async fn get_group(client: &Client, id: &str) -> Result<Vec<WithRaw<TaskStatus>>> {
    list_at(client, &format!("/groups/{}", percent_encode(id))).await
}

/// How long a group may take to be complete on this server: another one may have created it.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(15);
const COMPLETE_POLL: Duration = Duration::from_millis(100);

/// The tasks of a group that was just submitted, once the server knows `count` of them.
pub(crate) async fn get_whole_group(client: &Client, id: &str, count: usize) -> Result<Vec<WithRaw<TaskStatus>>> {
    let deadline = Instant::now() + COMPLETE_TIMEOUT;
    loop {
        match get_group(client, id).await {
            Ok(tasks) if tasks.len() >= count => return Ok(tasks),
            Err(Error::NotFound(_)) | Ok(_) if Instant::now() < deadline => sleep(COMPLETE_POLL).await,
            found => return found,
        }
    }
}

/// One task or group by its ID, ID prefix, or name.
///
/// # Errors
/// [`Error::NotFound`] if nothing matches, [`Error::Usage`] if the reference is ambiguous.
pub(crate) async fn find_target(client: &Client, reference: &str, ambiguity: Ambiguity) -> Result<Target> {
    if is_id(reference) {
        match get(client, reference).await {
            Err(Error::NotFound(_)) => {}
            found => return found.map(|task| Target::Task(Box::new(task))),
        }
    }
    select(list(client, false).await?, reference, ambiguity)
}

/// Several tasks and groups in the given order, without duplicates.
pub(crate) async fn find_targets(
    client: &Client,
    references: &[String],
    ignore_not_found: bool,
    ambiguity: Ambiguity,
) -> Result<Vec<Target>> {
    let find = async |reference: &str| find_target(client, reference, ambiguity).await;
    find_each(references, ignore_not_found, find, Target::id).await
}

/// The tasks that references name, by themselves or through their groups, without duplicates.
pub(crate) async fn find_tasks(
    client: &Client,
    references: &[String],
    ambiguity: Ambiguity,
) -> Result<Vec<WithRaw<TaskStatus>>> {
    let mut found: Vec<WithRaw<TaskStatus>> = Vec::new();
    for target in find_targets(client, references, false, ambiguity).await? {
        for task in target.into_tasks() {
            if found.iter().all(|known| known.item.task_id != task.item.task_id) {
                found.push(task);
            }
        }
    }
    Ok(found)
}

impl Target {
    /// The task, or the tasks of the group.
    pub(crate) fn into_tasks(self) -> Vec<WithRaw<TaskStatus>> {
        match self {
            Self::Task(task) => vec![*task],
            Self::Group(group) => group.tasks,
        }
    }

    /// Its path in the API.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Task(task) => format!("/tasks/{}", task.item.task_id),
            Self::Group(group) => format!("/groups/{}", group.id),
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Task(task) => &task.item.task_id,
            Self::Group(group) => &group.id,
        }
    }
}

/// Matches by ID, then by name, then by ID prefix. A group counts once, and comes before tasks of its own with the same
/// name.
fn select(tasks: Vec<WithRaw<TaskStatus>>, reference: &str, ambiguity: Ambiguity) -> Result<Target> {
    if let [id] = groups(&tasks, |group| group.group_id == reference).as_slice() {
        return Ok(Target::Group(take_group(tasks, id)));
    }
    let named = groups(&tasks, |group| group.name == reference);
    let is_named =
        |task: &TaskStatus| task.name == reference && !is_in_group(task, |group| named.contains(&group.group_id));
    let others = tasks.iter().filter(|task| is_named(&task.item)).count();
    let Some(newest) = named.last() else {
        let by_prefix = groups(&tasks, |group| group.group_id.starts_with(reference));
        let is_task = tasks.iter().any(|task| {
            let TaskStatus { task_id, name, .. } = &task.item;
            name == reference || task_id.starts_with(reference)
        });
        return match by_prefix.as_slice() {
            [id] if !is_task && reference.len() >= min_prefix(ambiguity) => Ok(Target::Group(take_group(tasks, id))),
            _ => find_in(tasks, reference, ambiguity).map(|task| Target::Task(Box::new(task))),
        };
    };
    if named.len() + others == 1 {
        return Ok(Target::Group(take_group(tasks, newest)));
    }
    let count = named.len() + others;
    if ambiguity != Ambiguity::TakesNewest {
        let tasks = tasks
            .iter()
            .filter(|task| is_named(&task.item))
            .map(|task| &task.item.task_id);
        let ids: Vec<&str> = named.iter().chain(tasks).map(String::as_str).collect();
        return Err(Error::Usage(format!(
            "`{reference}` matches {count} groups and tasks; specify an ID: {}",
            ids.join(", ")
        )));
    }
    // The server lists the oldest tasks first.
    let is_candidate = |task: &WithRaw<TaskStatus>| {
        is_named(&task.item) || is_in_group(&task.item, |group| named.contains(&group.group_id))
    };
    let last = tasks.iter().rposition(is_candidate).unwrap_or_default();
    let group = tasks[last]
        .item
        .metadata
        .group
        .as_ref()
        .map(|group| group.group_id.clone());
    let group = group.filter(|id| named.contains(id));
    let id = group.clone().unwrap_or_else(|| tasks[last].item.task_id.clone());
    print_message(&format!(
        "note: `{reference}` is the name of {count} groups and tasks; using the newest, {id}"
    ));
    Ok(match group {
        Some(id) => Target::Group(take_group(tasks, &id)),
        None => Target::Task(Box::new(find_in(tasks, &id, ambiguity)?)),
    })
}

/// The IDs of the groups that `matches`, oldest first. The server lists the oldest tasks first.
fn groups(tasks: &[WithRaw<TaskStatus>], matches: impl Fn(&TaskGroup) -> bool) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let all = tasks.iter().filter_map(|task| task.item.metadata.group.as_ref());
    for group in all.filter(|group| matches(group)) {
        if !ids.contains(&group.group_id) {
            ids.push(group.group_id.clone());
        }
    }
    ids
}

fn is_in_group(task: &TaskStatus, matches: impl Fn(&TaskGroup) -> bool) -> bool {
    task.metadata.group.as_ref().is_some_and(matches)
}

fn take_group(mut tasks: Vec<WithRaw<TaskStatus>>, id: &str) -> Group {
    tasks.retain(|task| is_in_group(&task.item, |group| group.group_id == id));
    let place = |task: &WithRaw<TaskStatus>| task.item.metadata.group.as_ref().map(|group| group.index);
    tasks.sort_by_key(place);
    Group {
        id: id.to_owned(),
        tasks,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use task::wire::TaskStatus;

    use super::{Ambiguity, Target, select};
    use crate::output::WithRaw;

    /// The ID, name, and index of a group.
    type InGroup<'a> = Option<(&'a str, &'a str, u32)>;

    /// Tasks from an ID, a name, and perhaps a group.
    fn tasks(tasks: &[(&str, &str, InGroup<'_>)]) -> Vec<WithRaw<TaskStatus>> {
        let task = |(id, name, group): &(&str, &str, InGroup<'_>)| {
            let mut value = json!({
                "task_id": id, "name": name, "status": "running", "username": "alice",
                "created_at": "2026-11-24T10:00:00Z", "updated_at": "2026-11-24T10:00:00Z",
                "metadata": {"job_name": "j", "namespace": "default", "num_nodes": 1, "node_jobs": ["j"],
                    "succeeded_nodes": 0, "failed_nodes": 0, "running_nodes": 1, "pending_nodes": 0},
            });
            if let Some((group_id, name, index)) = group {
                value["metadata"]["group"] = json!({"group_id": group_id, "name": name, "index": index, "size": 2,
                    "execution": "serial", "max_parallel": null});
            }
            WithRaw::decode(serde_json::value::to_raw_value(&value).unwrap(), "http://test").unwrap()
        };
        tasks.iter().map(task).collect()
    }

    fn found(reference: &str, ambiguity: Ambiguity) -> Option<String> {
        let all = tasks(&[
            ("aaaa1111", "train", None),
            ("bbbb1111", "steps", Some(("gggg1111", "steps", 0))),
            ("cccc1111", "eval", Some(("gggg1111", "steps", 1))),
            ("dddd1111", "a", Some(("hhhh1111", "twice", 0))),
            ("eeee1111", "a", Some(("hhhh2222", "twice", 0))),
            ("ffff1111", "mixed", None),
            ("ffff2222", "b", Some(("iiii1111", "mixed", 0))),
        ]);
        match select(all, reference, ambiguity).ok()? {
            Target::Task(task) => Some(task.item.task_id),
            Target::Group(group) => Some(format!("{} of {}", group.tasks.len(), group.id)),
        }
    }

    #[test]
    fn a_group_is_found_by_id_name_or_beginning_and_comes_before_its_tasks() {
        let found = |reference| found(reference, Ambiguity::IsAnError);
        assert_eq!(found("gggg1111").unwrap(), "2 of gggg1111");
        assert_eq!(found("steps").unwrap(), "2 of gggg1111");
        assert_eq!(found("gggg").unwrap(), "2 of gggg1111");
        assert_eq!(found("ggg"), None, "too short for a command that deletes");
        assert_eq!(found("eval").unwrap(), "cccc1111");
        assert_eq!(found("train").unwrap(), "aaaa1111");
        assert_eq!(found("twice"), None, "two groups");
        assert_eq!(found("mixed"), None, "a task and a group");
        assert_eq!(found("hhhh"), None, "two groups begin like this");
    }

    #[test]
    fn what_only_reads_takes_the_newest_group_of_a_name() {
        assert_eq!(found("twice", Ambiguity::TakesNewest).unwrap(), "1 of hhhh2222");
        assert_eq!(found("mixed", Ambiguity::TakesNewest).unwrap(), "1 of iiii1111");
    }
}
