//! What must be so in what servers answer.

use std::sync::Arc;

use executor::TaskSnapshot;
use serde_json::Value;
use tokio::time::Instant;

use super::{APART, BOUND, FRESH, MOMENT, STOPPED, is_let_go};
use crate::clients::{USERS, user};
use crate::history::{History, Kind, Object, Task};
use crate::ledger::Ledger;
use crate::server::Server;
use crate::sim::Sim;

/// Compares what all servers answer with what is so.
pub fn look(sim: &Arc<Sim>) {
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
            self.check_whose(id, view);
        }
        for id in self.history.tasks() {
            let task = self.history.task(&id);
            if task.user() != self.user {
                continue;
            }
            // What strangers have made under the same identifier is not it.
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

    fn violated(&self, promise: &'static str, how: &str) {
        self.sim
            .timeline
            .violated(promise, format!("{} shows {}: {how}", self.server.name, self.user));
    }

    /// Everything that is shown as one task is of one task of this user.
    fn check_whose(&self, id: &str, view: &TaskSnapshot) {
        let jobs = view.jobs.iter().filter_map(|job| self.history.get(&job.uid));
        let jobs: Vec<&Object> = jobs.collect();
        if jobs.iter().any(|job| job.user != self.user) {
            self.violated(APART, &format!("{id}, which has a Job of somebody else"));
        }
        let strange = jobs.iter().filter(|job| job.by_stranger).count();
        let is_whole = strange == 0 || strange == jobs.len();
        if !is_whole || (strange > 0 && self.user != "mallory") {
            self.violated(APART, &format!("{id}, in which something of a stranger counts"));
        }
        if let Some(job) = jobs.first()
            && view.num_nodes != job.num_nodes
        {
            self.violated(
                APART,
                &format!("{id} with {} nodes of {}", view.num_nodes, job.num_nodes),
            );
        }
    }

    fn check_task(&self, id: &str, task: &Task<'_>, view: Option<&TaskSnapshot>) {
        let bound = Instant::now() - BOUND - MOMENT;
        let is_old = |moment: Option<Instant>| moment.is_some_and(|moment| moment < bound);
        match view {
            None => {
                let is_missing = is_old(task.visible_since()) && task.is_there() && task.is_untouched_since(bound);
                if is_missing && !is_let_go(self.sim, self.ledger, task, id) {
                    self.violated(FRESH, &format!("{id} is missing"));
                }
            }
            Some(view) => {
                if is_old(task.gone_since()) {
                    self.violated(FRESH, &format!("{id}, which is gone"));
                }
                if is_old(task.deleted_since()) && !view.terminating {
                    self.violated(STOPPED, &format!("{id}, which was deleted"));
                }
                if task.visible_since().is_none() {
                    self.violated(FRESH, &format!("{id}, which is not committed"));
                }
                if task.is_there() && task.is_untouched_since(bound) {
                    self.check_nodes(id, task, view, bound);
                }
            }
        }
    }

    /// Each node is shown as its pod has been for a while.
    fn check_nodes(&self, id: &str, task: &Task<'_>, view: &TaskSnapshot, bound: Instant) {
        let status: Value = serde_json::from_slice(&view.json).unwrap();
        for job in task.present() {
            let pods = self
                .history
                .of(Kind::Pod, id)
                .filter(|pod| pod.owners.contains(&job.uid));
            let Some(pod) = pods.max_by_key(|pod| pod.made) else {
                continue;
            };
            let is_steady = pod.moved < bound && job.made < bound && pod.is_there() && pod.is_untouched_since(bound);
            if !is_steady || pod.annotation("k8s-cli/ended-because-of-node").is_some() {
                continue;
            }
            let mut nodes = status["metadata"]["nodes"].as_array().into_iter().flatten();
            let shown = nodes.find(|node| node["rank"] == job.rank && node["attempt"] == job.attempt);
            let shown = shown.and_then(|node| node["status"].as_str()).unwrap_or("nothing");
            let is_right = match pod.phase() {
                "Succeeded" => shown == "completed" || pod.has_condition("DisruptionTarget"),
                "Failed" => shown == "failed",
                "Running" => shown == "running" || job.num_nodes > 1,
                _ => shown == "pending" || shown == "failed",
            };
            if !is_right {
                self.violated(
                    FRESH,
                    &format!("node {} of {id} as {shown}, which is {}", job.rank, pod.phase()),
                );
            }
        }
    }
}
