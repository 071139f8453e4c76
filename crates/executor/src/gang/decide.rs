//! Decides the next steps for a task from its current state, without side effects.

use jiff::Timestamp;
use task::TaskState;

use super::task::ManagedTask;
use crate::cache::{EndCause, Gang, Gate, HeldJob, Job, JobEnd, Phase, Pod, Stage, has_completed};
use crate::kubernetes::ObjectRef;

/// A step toward the desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the Jobs of a task whose group has released it.
    StartJobs { jobs: Vec<(ObjectRef, HeldJob)> },
    /// Open the start gate: all nodes run, so publish every address to these pods, each with its deadline in seconds.
    OpenStartGate {
        pods: Vec<(ObjectRef, Option<i64>)>,
        node_ips: String,
    },
    /// Open the run gate of these pods: the setup of all nodes has ended.
    OpenRunGate { pods: Vec<ObjectRef> },
    /// End the remaining nodes because one failed, or because the task was canceled. Nodes with a pod on a cluster node
    /// get SIGTERM, the grace period, and SIGKILL, which keeps their logs; the others are ended through their Jobs.
    EndNodes {
        pods: Vec<ObjectRef>,
        jobs: Vec<ObjectRef>,
        /// Jobs that wait for their group. Kubernetes only ends a Job that is not suspended.
        held: Vec<ObjectRef>,
        because_of: EndCause,
    },
    /// Terminate the injected containers of pods whose task container has ended. Records the exit code first, because
    /// ending the pod hides it.
    EndLeftoverContainers { nodes: Vec<LeftoverContainers> },
    /// Delete Jobs, with their pods and logs.
    DeleteJobs { jobs: Vec<ObjectRef> },
    /// Create the Jobs of an attempt from those of the previous one.
    CreateAttempt {
        from: Vec<ObjectRef>,
        attempt: u32,
        restarts: u32,
    },
}

/// A node whose container has ended while injected containers in its pod keep running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftoverContainers {
    pub job: ObjectRef,
    pub pod: ObjectRef,
    pub exit_code: i32,
}

impl Action {
    /// The gate that the step opens.
    pub(crate) fn gate(&self) -> Option<Gate> {
        match self {
            Self::OpenStartGate { .. } => Some(Gate::Start),
            Self::OpenRunGate { .. } => Some(Gate::Run),
            Self::StartJobs { .. }
            | Self::EndNodes { .. }
            | Self::EndLeftoverContainers { .. }
            | Self::DeleteJobs { .. }
            | Self::CreateAttempt { .. } => None,
        }
    }

    /// Whether the step is irreversible, so that it must be decided on a fresh read. Opening a gate needs none: turns
    /// in the owner already prevent two servers from disagreeing about it.
    pub(crate) fn is_final(&self) -> bool {
        self.gate().is_none()
    }
}

/// The steps that are possible now, in any order.
pub(crate) fn decide(task: &ManagedTask, now: Timestamp) -> Vec<Action> {
    let mut actions = steps(task, now);
    let leftover: Vec<LeftoverContainers> = task.nodes.iter().filter_map(leftover_containers).collect();
    if !leftover.is_empty() {
        actions.push(Action::EndLeftoverContainers { nodes: leftover });
    }
    if !task.outdated.is_empty() {
        let jobs = task.outdated.iter().map(|job| job.object_ref());
        actions.push(Action::DeleteJobs { jobs: jobs.collect() });
    }
    actions
}

fn steps(task: &ManagedTask, now: Timestamp) -> Vec<Action> {
    if task.is_cancelled() {
        return end_all(task, EndCause::Cancelled);
    }
    let held: Vec<(ObjectRef, HeldJob)> = task.nodes.iter().filter_map(|(job, _)| held(job)).collect();
    if !held.is_empty() {
        // `group` decides when a task starts, and records it in the turn.
        let is_held = task.turn().stage == Stage::Held;
        return if is_held {
            Vec::new()
        } else {
            vec![Action::StartJobs { jobs: held }]
        };
    }
    if let Some(next) = next_attempt(task) {
        return vec![next];
    }
    let any = |is: fn(&Job) -> bool| task.nodes.iter().any(|(job, _)| is(job));
    if !any(|job| job.gang.is_some()) {
        return Vec::new();
    }
    if let Some(failed) = first_failure(task) {
        return end_all(task, EndCause::NodeFailed(failed));
    }
    // Don't open a gate for a task that is about to end for lack of resources, or whose Job somebody suspended.
    let turn = task.turn();
    let is_its_turn = matches!(turn.stage, Stage::Waiting | Stage::Started);
    if !is_its_turn || any(|job| job.provision_timed_out.is_some() || job.suspended) {
        return Vec::new();
    }
    open_gate(task, now).into_iter().collect()
}

fn held(job: &Job) -> Option<(ObjectRef, HeldJob)> {
    let held = job.held.as_ref().filter(|_| !job.is_over())?;
    Some((job.object_ref(), HeldJob::clone(held)))
}

fn leftover_containers((job, pod): &(Job, Option<Pod>)) -> Option<LeftoverContainers> {
    let pod = pod
        .as_ref()
        .filter(|pod| pod.has_leftover_containers && !pod.is_ending && !pod.terminating)?;
    let Phase::Ended(end) = &pod.phase else { return None };
    Some(LeftoverContainers {
        job: job.object_ref(),
        pod: pod.object_ref(),
        exit_code: end.exit_code?,
    })
}

/// Ends every unfinished node.
pub(crate) fn end_all(task: &ManagedTask, because_of: EndCause) -> Vec<Action> {
    let (mut pods, mut jobs, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for (job, pod) in &task.nodes {
        if job.is_over() || job.ended_because_of.is_some() {
            continue;
        }
        match pod {
            Some(pod) if matches!(pod.phase, Phase::Ended(_)) || pod.ended_because_of.is_some() => {}
            Some(pod) if pod.node_name.is_some() => pods.push(pod.object_ref()),
            None if job.held.is_some() => held.push(job.object_ref()),
            _ => jobs.push(job.object_ref()),
        }
    }
    let is_nothing = pods.is_empty() && jobs.is_empty() && held.is_empty();
    let end = Action::EndNodes {
        pods,
        jobs,
        held,
        because_of,
    };
    if is_nothing { Vec::new() } else { vec![end] }
}

/// The gate that can be opened now: the start gate once all nodes run, the run gate once the setup of all has ended.
fn open_gate(task: &ManagedTask, now: Timestamp) -> Option<Action> {
    let pods = all_running(task)?;
    let waiting: Vec<&&Pod> = pods.iter().filter(|pod| !pod.may_start()).collect();
    if !waiting.is_empty() {
        let addresses: Vec<&str> = pods.iter().map(|pod| pod.ip.as_deref()).collect::<Option<_>>()?;
        let with_deadline = |pod: &&&Pod| (pod.object_ref(), deadline(task, &pods, pod, now));
        return Some(Action::OpenStartGate {
            pods: waiting.iter().map(with_deadline).collect(),
            node_ips: addresses.join("\n"),
        });
    }
    let has_setup = task.nodes.iter().any(|(job, _)| job.gang == Some(Gang::Setup));
    let has_ended = |pod: &Pod| matches!(pod.phase, Phase::Ended(_));
    // Readiness counts only once: a probe may fail again after the run gate opened. A node that ended was set up.
    let is_set_up = |pod: &&Pod| pod.ready || pod.may_run() || has_ended(pod);
    let waiting: Vec<ObjectRef> = pods
        .iter()
        .filter(|pod| !pod.may_run() && !has_ended(pod))
        .map(|pod| pod.object_ref())
        .collect();
    let opens = has_setup && !waiting.is_empty() && pods.iter().all(is_set_up);
    opens.then_some(Action::OpenRunGate { pods: waiting })
}

/// The deadline of a pod. The kubelet counts it from when it accepted the pod, so the time spent waiting for the other
/// nodes, and for a server to open the gate, is added. The nodes' start times guard against a server clock that is
/// behind.
fn deadline(task: &ManagedTask, pods: &[&Pod], pod: &Pod, now: Timestamp) -> Option<i64> {
    let (job, _) = task.nodes.first()?;
    let seconds = i64::from(job.max_duration?);
    let starts = pods.iter().filter_map(|pod| match pod.phase {
        Phase::Running { since } => since,
        Phase::Pending(_) | Phase::Ended(_) => None,
    });
    let starts_at = starts.max().map_or(now, |last| last.max(now));
    let waited = starts_at.as_second() - pod.accepted_at?.as_second();
    Some(seconds + waited.max(0))
}

/// The next attempt, if it is due or another server has created only some of its Jobs.
fn next_attempt(task: &ManagedTask) -> Option<Action> {
    let (job, _) = task.nodes.first()?;
    if let Some(restart) = task.restart {
        return Some(Action::CreateAttempt {
            from: task.nodes.iter().map(|(job, _)| job.object_ref()).collect(),
            attempt: job.attempt + 1,
            restarts: job.restarts + u32::from(restart.counts),
        });
    }
    let has_job = |rank: u32| task.nodes.iter().any(|(job, _)| job.rank == rank);
    let missing: Vec<ObjectRef> = task
        .previous
        .iter()
        .filter(|previous| !has_job(previous.rank))
        .map(|previous| previous.object_ref())
        .collect();
    (!missing.is_empty()).then_some(Action::CreateAttempt {
        from: missing,
        attempt: job.attempt,
        restarts: job.restarts,
    })
}

/// The rank of the first node that failed on its own.
fn first_failure(task: &ManagedTask) -> Option<u32> {
    let failed = task.nodes.iter().filter_map(|(job, pod)| {
        if job.ended_because_of.is_some() || pod.as_ref().is_some_and(|pod| pod.ended_because_of.is_some()) {
            return None;
        }
        if has_completed(job, pod.as_ref()) {
            return None;
        }
        match (&job.end, pod.as_ref().map(|pod| &pod.phase)) {
            // A deleted pod may belong to a task that gives way. If it does not, the Job reports the failure.
            (None, _) if pod.as_ref().is_some_and(|pod| pod.terminating) => None,
            // The pod's own status follows shortly and says more.
            (Some(JobEnd::Failed(_)), Some(Phase::Running { .. }))
                if pod.as_ref().is_some_and(|pod| !pod.terminating) =>
            {
                None
            }
            (_, Some(Phase::Ended(end))) if end.state == TaskState::Failed => {
                Some((end.finished_at.is_none(), end.finished_at, job.rank))
            }
            (Some(JobEnd::Failed(_)), _) => Some((true, None, job.rank)),
            // The Job controller sets no end on a suspended Job, so the annotation decides.
            (None, None) if job.provision_timed_out.is_some() && job.is_over() => Some((true, None, job.rank)),
            _ => None,
        }
    });
    failed.min().map(|(_, _, rank)| rank)
}

/// The pods in rank order, if every node has one that is running or has run.
fn all_running(task: &ManagedTask) -> Option<Vec<&Pod>> {
    if task.nodes.len() != usize::try_from(task.num_nodes).ok()? {
        return None;
    }
    let running = |pod: &&Pod| match pod.phase {
        Phase::Running { .. } => !pod.terminating,
        // While the start gate is being opened, a node that went first may already have ended.
        Phase::Ended(_) => pod.may_start(),
        Phase::Pending(_) => false,
    };
    task.nodes.iter().map(|(_, pod)| pod.as_ref().filter(running)).collect()
}

#[cfg(test)]
mod tests;
