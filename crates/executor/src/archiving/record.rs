//! Derives the record of a task, with pure functions.

use jiff::Timestamp;
use quantity::Quantity;
use serde_json::Value;
use task::record::{EndKind, NodeRequests, PodLogRecord, RECORD_VERSION, TaskEnd, TaskRecord, Usage};
use task::wire::{TaskState, TaskStatus};

use crate::cache::{CANCELLED, TaskSnapshot};

const GIB: f64 = (1_u64 << 30) as f64;

/// Why a task that was stopped or deleted before its end has failed.
const STOPPED: &str = "Stopped";
const DELETED: &str = "Deleted";

/// What is known about a task whose record has not been written yet.
pub(crate) fn live_record(snapshot: &TaskSnapshot, now: Timestamp) -> Option<TaskRecord> {
    let task: TaskStatus = serde_json::from_slice(&snapshot.json).ok()?;
    Some(record(snapshot, task, None, now, Vec::new()))
}

/// The record of a task that has ended, or is gone.
pub(crate) fn final_record(snapshot: &TaskSnapshot, now: Timestamp, logs: Vec<PodLogRecord>) -> Option<TaskRecord> {
    let mut task: TaskStatus = serde_json::from_slice(&snapshot.json).ok()?;
    let facts = snapshot.facts.as_ref();
    let stopped_by = facts.and_then(|facts| facts.stopped_by.as_deref());
    let canceled_by = facts.and_then(|facts| facts.canceled_by.as_deref());
    let how = match (task.status.is_final(), stopped_by) {
        (true, _) if task.reason.as_deref() == Some(CANCELLED) => EndKind::Cancelled,
        (true, _) => EndKind::Finished,
        // Its nodes had not all ended when its objects were deleted.
        (false, _) if canceled_by.is_some() => {
            set_ended(&mut task, CANCELLED, "the task was canceled".to_owned());
            EndKind::Cancelled
        }
        (false, Some(user)) => {
            set_ended(&mut task, STOPPED, format!("the task was stopped by `{user}`"));
            EndKind::Stopped
        }
        (false, None) => {
            let message = "the Kubernetes objects of the task were deleted before it ended";
            set_ended(&mut task, DELETED, message.to_owned());
            EndKind::Deleted
        }
    };
    let end = TaskEnd {
        how,
        at: task::time::format(now),
        by: match how {
            EndKind::Stopped => stopped_by.map(str::to_owned),
            EndKind::Cancelled => canceled_by.map(str::to_owned),
            EndKind::Finished | EndKind::Deleted => None,
        },
    };
    Some(record(snapshot, task, Some(end), now, logs))
}

fn set_ended(task: &mut TaskStatus, reason: &str, message: String) {
    task.status = TaskState::Failed;
    task.reason = Some(reason.to_owned());
    task.message = Some(message);
}

fn record(
    snapshot: &TaskSnapshot,
    task: TaskStatus,
    end: Option<TaskEnd>,
    now: Timestamp,
    logs: Vec<PodLogRecord>,
) -> TaskRecord {
    let facts = snapshot.facts.as_ref();
    let definition = facts.and_then(|facts| facts.definition.as_deref());
    let definition: Option<Value> = definition.and_then(|definition| serde_json::from_str(definition).ok());
    let known = facts.and_then(|facts| serde_json::from_str(facts.requests.as_deref()?).ok());
    // Tasks of an earlier version have only the definition.
    let requests = known.or_else(|| definition.as_ref().map(requests));
    TaskRecord {
        version: RECORD_VERSION,
        usage: usage(&task, requests, now),
        task,
        end,
        definition,
        requests,
        logs,
    }
}

/// What each node of a task with this definition requested.
fn requests(definition: &Value) -> NodeRequests {
    let resources = &definition["resources"];
    let amount = |key: &str| resources[key].as_str().and_then(Quantity::parse);
    let value = |key: &str| amount(key).map_or(0.0, |amount| amount.nanos() as f64 / 1e9);
    let gpus = resources["accelerators"]["count"].as_u64().unwrap_or(0);
    NodeRequests {
        cpus: value("cpus"),
        memory_gib: value("memory") / GIB,
        gpus: u32::try_from(gpus).unwrap_or(u32::MAX),
    }
}

/// What the nodes used. Nodes that have not ended are counted up to `now`; of earlier attempts only the first start and the
/// last end are known, so they are counted as if all nodes had run in between.
fn usage(task: &TaskStatus, requests: Option<NodeRequests>, now: Timestamp) -> Usage {
    let seconds = |started_at: Option<&String>, finished_at: Option<&String>| {
        let Some(start) = started_at.and_then(|start| task::time::parse(start)) else {
            return 0.0;
        };
        let end = finished_at.and_then(|end| task::time::parse(end)).unwrap_or(now);
        end.duration_since(start).as_secs_f64().max(0.0)
    };
    let nodes = task.metadata.nodes.iter();
    let current: f64 = nodes
        .map(|node| seconds(node.started_at.as_ref(), node.finished_at.as_ref()))
        .sum();
    let attempts = task.metadata.attempts.iter();
    let earlier: f64 = attempts
        .map(|attempt| seconds(attempt.started_at.as_ref(), attempt.finished_at.as_ref()))
        .sum();
    let node_hours = (current + earlier * f64::from(task.metadata.num_nodes)) / 3600.0;
    let of = |amount: fn(NodeRequests) -> f64| requests.map_or(0.0, |requests| amount(requests) * node_hours);
    Usage {
        node_hours,
        cpu_hours: of(|requests| requests.cpus),
        memory_gib_hours: of(|requests| requests.memory_gib),
        gpu_hours: of(|requests| f64::from(requests.gpus)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use serde_json::json;
    use task::TaskDefinition;
    use task::definition::MAX_NODES;

    use super::{EndKind, NodeRequests, final_record, requests};
    use crate::cache::{RecordFacts, TaskKey, TaskSnapshot};
    use crate::user_key::UserKey;

    #[test]
    fn a_task_that_is_deleted_while_it_ends_was_canceled_or_stopped_by_its_user() {
        let user = UserKey::from_labels(&[("username".to_owned(), "alice".to_owned())].into()).unwrap();
        let key = Arc::new(TaskKey {
            id: "abc".into(),
            user,
            submission: None,
        });
        let json = json!({
            "task_id": "abc", "name": "train", "status": "running", "username": "alice",
            "created_at": "2026-01-02T03:04:05.000000Z", "updated_at": "2026-01-02T03:04:05.000000Z",
            "metadata": {
                "job_name": "train-abc", "namespace": "ml", "num_nodes": 1, "node_jobs": ["train-abc"], "nodes": [],
                "succeeded_nodes": 0, "failed_nodes": 0, "running_nodes": 1, "pending_nodes": 0,
            },
        });
        let end = |stopped_by: Option<&str>, canceled_by: Option<&str>| {
            let facts = RecordFacts {
                definition: None,
                requests: Some(r#"{"cpus":2.0,"memory_gib":0.5,"gpus":1}"#.into()),
                stopped_by: stopped_by.map(Into::into),
                canceled_by: canceled_by.map(Into::into),
            };
            let mut snapshot = TaskSnapshot::example(&key, "alice", 0);
            snapshot.json = json.to_string().into();
            snapshot.facts = Some(Arc::new(facts));
            let record = final_record(&snapshot, Timestamp::UNIX_EPOCH, Vec::new()).unwrap();
            assert_eq!(record.requests.unwrap().cpus, 2.0, "not those of the definition");
            let end = record.end.unwrap();
            (end.how, end.by, record.task.reason)
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            end(None, Some("bob")),
            (EndKind::Cancelled, text("bob"), text("Cancelled"))
        );
        assert_eq!(
            end(Some("alice"), Some("bob")),
            (EndKind::Cancelled, text("bob"), text("Cancelled"))
        );
        assert_eq!(
            end(Some("alice"), None),
            (EndKind::Stopped, text("alice"), text("Stopped"))
        );
        assert_eq!(end(None, None), (EndKind::Deleted, None, text("Deleted")));
    }

    #[test]
    fn requests_are_those_of_the_definition() {
        let of = |resources: serde_json::Value| {
            let body = json!({"run": "true", "resources": resources});
            let definition = TaskDefinition::parse(&body, MAX_NODES).unwrap();
            requests(&serde_json::to_value(definition).unwrap())
        };
        let expected = NodeRequests {
            cpus: 0.5,
            memory_gib: 1.5,
            gpus: 8,
        };
        assert_eq!(
            of(json!({"cpus": "500m", "memory": 1.5, "accelerators": "H100:8"})),
            expected
        );
        let nothing = NodeRequests {
            cpus: 0.0,
            memory_gib: 0.0,
            gpus: 0,
        };
        assert_eq!(of(json!({})), nothing);
    }
}
