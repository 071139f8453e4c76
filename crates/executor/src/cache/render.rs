//! Builds the snapshot of a task after a change.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use task::wire::TaskStatus;

use super::attempts::{Attempts, newest_pods};
use super::group_member::GroupMember;
use super::identity::TaskKey;
use super::job::Job;
use super::load_balancers::LoadBalancers;
use super::object::{Pod, TaskOwner};
use super::phase::Phase;
use super::snapshot::{NodePod, TaskSnapshot};
use super::task::Task;
use super::turn::Stage;
use super::warnings::Warnings;
use super::{aggregate, recovery};

/// What a snapshot depends on besides the objects of the task.
pub(super) struct RenderContext<'a> {
    pub warnings: &'a Warnings,
    pub load_balancers: &'a LoadBalancers,
    pub namespace: &'a str,
    pub now: Timestamp,
    /// The snapshot before the change. If nothing else has changed, its time is kept.
    pub previous: Option<&'a Arc<TaskSnapshot>>,
    /// The error that keeps the server from moving the task on.
    pub controller_error: Option<&'a str>,
}

/// The snapshot of a task, or `None` if it has no Jobs.
pub(super) fn snapshot(key: &Arc<TaskKey>, task: &Task, context: &RenderContext<'_>) -> Option<Arc<TaskSnapshot>> {
    let (jobs, namespace) = (Attempts::of(&task.jobs), context.namespace);
    let warning = |uid: &str| context.warnings.get(uid);
    let first = jobs.current.first()?;
    let newest = newest_pods(&task.pods);
    let since = match context.previous {
        Some(previous) => previous.updated_at.clone(),
        None => task::time::format(last_change(jobs, &newest, context.now)),
    };
    let (terminating, is_cancelled) = (task.is_terminating(), task.is_cancelled());
    let to_be_made = recovery::to_be_made(jobs, is_cancelled);
    let mut status = aggregate::status(jobs.current, to_be_made, &newest, warning, namespace, since);
    let restart = recovery::restart(&status, jobs.current).filter(|_| !terminating && !is_cancelled);
    let outcome = recovery::outcome_of(status.status, jobs, to_be_made).filter(|_| restart.is_none());
    if restart.is_some() {
        recovery::set_recovering(&mut status);
    }
    let owner = task.owner().filter(|_| first.owned_by.is_some());
    let group = owner.and_then(|owner| owner.group.as_deref());
    status.metadata.group = group.map(GroupMember::to_wire);
    if let Some(ports) = &first.ports {
        let pod_ip = status.metadata.nodes.first().and_then(|node| node.pod_ip.as_deref());
        let outside = ports
            .service()
            .and_then(|service| context.load_balancers.address(service, key));
        status.metadata.endpoints = ports.endpoints(namespace, pod_ip, outside);
    }
    set_reasons(&mut status, task, context);
    for attempt in jobs.earlier.chunk_by(|left, right| left.attempt == right.attempt) {
        let of_it = aggregate::status(attempt, &[], &newest, warning, namespace, String::new());
        status.metadata.attempts.push(recovery::attempt_status(of_it));
    }
    let mut json = encode(&status);
    if context.previous.is_some_and(|previous| previous.json != json) {
        status.updated_at = task::time::format(context.now);
        json = encode(&status);
    }
    let all = || jobs.earlier.iter().chain(jobs.current);
    let nodes = all()
        .map(|job| NodePod::of(job, newest.get(job.uid.as_str()).copied(), jobs.is_earlier(job)))
        .collect();
    Some(Arc::new(TaskSnapshot {
        key: Arc::clone(key),
        name: status.name,
        username: first.username.clone(),
        created_at: first.created_at,
        creation_timestamp: owner.map_or(first.creation_timestamp, |owner| owner.creation_timestamp),
        state: status.status,
        outcome,
        json_hash: BuildHasherDefault::<DefaultHasher>::new().hash_one(&json),
        json,
        updated_at: status.updated_at,
        num_nodes: status.metadata.num_nodes,
        jobs: all().map(Job::object_ref).collect(),
        owned_by: owner.map(TaskOwner::object_ref),
        nodes,
        recovers: first.may_be_retried(),
        restart,
        terminating,
        facts: owner.map_or_else(|| first.facts.clone(), |owner| owner.facts.clone()),
        is_disowned: owner.is_some_and(|owner| owner.terminating),
    }))
}

/// Replaces what the nodes say by what explains more.
fn set_reasons(status: &mut TaskStatus, task: &Task, context: &RenderContext<'_>) {
    let current = task.current_jobs();
    let owner = task
        .owner()
        .filter(|_| current.first().is_some_and(|job| job.owned_by.is_some()));
    let is_held = owner.is_some_and(|owner| owner.turn.is_some_and(|turn| turn.stage == Stage::Held));
    let group = owner.and_then(|owner| owner.group.as_deref());
    if let Some(group) = group.filter(|_| is_held && !status.status.is_final()) {
        aggregate::set_held(status, &group.waits_for());
    }
    if let Some(controller_error) = context.controller_error {
        aggregate::set_controller_error(status, controller_error);
    }
    if task.is_cancelled() {
        aggregate::set_cancelled(status);
    }
    if task.is_terminating() {
        aggregate::set_terminating(status, current);
    }
}

fn encode(status: &TaskStatus) -> Bytes {
    // Drop the spare capacity: there is one of these per task.
    Bytes::from(
        serde_json::to_vec(status)
            .expect("a status is plain data")
            .into_boxed_slice(),
    )
}

/// When a task last changed, for a task that is new to this cache. Uses only times from Kubernetes, so that all servers
/// agree.
fn last_change(jobs: Attempts<'_>, pods: &HashMap<&str, &Pod>, now: Timestamp) -> Timestamp {
    let of_pod = |pod: &Pod| match &pod.phase {
        Phase::Pending(_) => None,
        Phase::Running { since } => *since,
        Phase::Ended(end) => end.finished_at,
    };
    let of_job = |job: &Job| {
        let pod = pods.get(job.uid.as_str()).and_then(|pod| of_pod(pod));
        job.ended_at.max(pod).unwrap_or(job.created_at).max(job.created_at)
    };
    let times = jobs.earlier.iter().chain(jobs.current).map(of_job);
    times.max().unwrap_or(now)
}
