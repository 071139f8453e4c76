//! Invariants of the responses of servers.

use std::sync::Arc;

use executor::TaskSnapshot;
use task::TaskState;
use task::wire::TaskStatus;
use tokio::time::Instant;

use super::{FRESHNESS, ISOLATION, MAX_AGE, STOP, WATCH_DELAY, may_be_gone};
use crate::clients::{USERS, user};
use crate::history::{History, Kind, Object, Task};
use crate::ledger::Ledger;
use crate::server::Server;
use crate::sim::Sim;

/// Compares the responses of all servers with the history.
pub(crate) fn check_responses(sim: &Arc<Sim>) {
    let (history, ledger) = (sim.history(), sim.ledger());
    for server in sim.servers.running() {
        for name in USERS {
            if let Ok(tasks) = server.executor.tasks(Some(&user(name))) {
                let seen = Seen {
                    sim,
                    history: &history,
                    ledger: &ledger,
                    server: &server,
                    user: name,
                };
                seen.check(&tasks);
            }
        }
    }
}

struct Seen<'a> {
    sim: &'a Sim,
    history: &'a History,
    ledger: &'a Ledger,
    server: &'a Server,
    user: &'static str,
}

impl Seen<'_> {
    fn check(&self, tasks: &[(String, Arc<TaskSnapshot>)]) {
        for (id, view) in tasks {
            self.check_owner(id, view);
        }
        for id in self.history.tasks() {
            let task = self.history.task(&id);
            if task.user() != self.user {
                continue;
            }
            // Foreign objects with the same ID are another task.
            let is_it = |view: &TaskSnapshot| {
                view.jobs
                    .iter()
                    .any(|seen| task.jobs.iter().any(|job| job.uid == seen.uid))
            };
            let view = tasks
                .iter()
                .find(|(known, view)| *known == id && is_it(view))
                .map(|(_, view)| view);
            self.check_task(&id, &task, view.map(Arc::as_ref));
        }
    }

    fn violated(&self, invariant: &'static str, how: &str) {
        self.sim
            .timeline
            .violated(invariant, format!("{} shows {}: {how}", self.server.name, self.user));
    }

    /// All objects of a task belong to this user and to one task.
    fn check_owner(&self, id: &str, view: &TaskSnapshot) {
        let jobs = view.jobs.iter().filter_map(|job| self.history.get(&job.uid));
        let jobs: Vec<&Object> = jobs.collect();
        if jobs.iter().any(|job| job.user != self.user) {
            self.violated(ISOLATION, &format!("{id}, which has a Job of another user"));
        }
        let strange = jobs.iter().filter(|job| job.is_foreign).count();
        let is_whole = strange == 0 || strange == jobs.len();
        if !is_whole || (strange > 0 && self.user != "mallory") {
            self.violated(ISOLATION, &format!("{id}, which includes foreign objects"));
        }
        if let Some(job) = jobs.first()
            && view.num_nodes != job.num_nodes
        {
            self.violated(
                ISOLATION,
                &format!("{id} with {} nodes of {}", view.num_nodes, job.num_nodes),
            );
        }
    }

    fn check_task(&self, id: &str, task: &Task<'_>, view: Option<&TaskSnapshot>) {
        let bound = Instant::now() - MAX_AGE - WATCH_DELAY;
        let is_old = |moment: Option<Instant>| moment.is_some_and(|moment| moment < bound);
        match view {
            None => {
                let is_missing = is_old(task.visible_since()) && task.exists() && task.is_untouched_since(bound);
                if is_missing && !may_be_gone(self.sim, self.ledger, task, id) {
                    self.violated(FRESHNESS, &format!("{id} is missing"));
                }
            }
            Some(view) => {
                if is_old(task.deleted_at()) {
                    self.violated(FRESHNESS, &format!("{id}, which no longer exists"));
                }
                if is_old(task.deletion_started_at()) && !view.terminating {
                    self.violated(STOP, &format!("{id}, which was deleted"));
                }
                if task.visible_since().is_none() {
                    self.violated(FRESHNESS, &format!("{id}, which is not committed"));
                }
                if task.exists() && task.is_untouched_since(bound) {
                    self.check_nodes(id, task, view, bound);
                }
            }
        }
    }

    /// Each node has the state that its pod has had for a while.
    fn check_nodes(&self, id: &str, task: &Task<'_>, view: &TaskSnapshot, bound: Instant) {
        let status: TaskStatus = serde_json::from_slice(&view.json).unwrap();
        for job in task.latest_jobs() {
            let pods = self
                .history
                .of(Kind::Pod, id)
                .filter(|pod| pod.owners.contains(&job.uid));
            let Some(pod) = pods.max_by_key(|pod| pod.created_at) else {
                continue;
            };
            let is_steady =
                pod.phase_changed_at < bound && job.created_at < bound && pod.exists() && pod.is_untouched_since(bound);
            if !is_steady || pod.annotation("k8s-cli/ended-because-of-node").is_some() {
                continue;
            }
            let mut nodes = status.metadata.nodes.iter();
            let shown = nodes.find(|node| node.rank == job.rank && node.attempt == job.attempt);
            let shown = shown.map(|node| node.status);
            let is_right = match pod.phase() {
                "Succeeded" => shown == Some(TaskState::Completed) || pod.has_condition("DisruptionTarget"),
                "Failed" => shown == Some(TaskState::Failed),
                "Running" => shown == Some(TaskState::Running) || job.num_nodes > 1,
                _ => matches!(shown, Some(TaskState::Pending | TaskState::Failed)),
            };
            if !is_right {
                let shown = shown.map_or_else(|| "missing".to_owned(), |state| state.to_string());
                self.violated(
                    FRESHNESS,
                    &format!("node {} of {id} as {shown}, which is {}", job.rank, pod.phase()),
                );
            }
        }
    }
}
