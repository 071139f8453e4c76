//! Decides the next steps for a task from its current state, without side effects.

use jiff::Timestamp;
use task::TaskState;

use crate::cache::{Gang, GangTask, Job, JobEnd, Phase, Pod, Stage, has_completed};

/// The name and uid of an object to change.
pub type Target = (String, String);

/// A step toward the desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open the start gate: all nodes run, so publish every address to these pods, each with its deadline in seconds.
    Begin {
        pods: Vec<(Target, Option<i64>)>,
        node_ips: String,
    },
    /// Open the run gate of these pods: the setup of all nodes has ended.
    Run { pods: Vec<Target> },
    /// End the remaining nodes because this one failed. Nodes with a pod on a cluster node get SIGTERM, the grace
    /// period, and SIGKILL, which keeps their logs; the others are ended through their Jobs.
    End {
        pods: Vec<Target>,
        jobs: Vec<Target>,
        because_of: u32,
    },
    /// Terminate the injected containers of pods whose task container has ended. Records the exit code first, because
    /// ending the pod hides it.
    EndOthers { nodes: Vec<Outlived> },
    /// Delete Jobs, with their pods and logs.
    Remove { jobs: Vec<Target> },
    /// Create the Jobs of an attempt from those of the previous one.
    MakeAttempt {
        from: Vec<Target>,
        attempt: u32,
        restarts: u32,
    },
}

/// A node whose container has ended while injected containers in its pod keep running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlived {
    pub job: Target,
    pub pod: Target,
    pub exit_code: i32,
}

impl Action {
    /// Whether the step is irreversible, so that it must be decided on a fresh read.
    pub fn is_final(&self) -> bool {
        match self {
            Self::End { .. } | Self::EndOthers { .. } | Self::Remove { .. } | Self::MakeAttempt { .. } => true,
            // Turns in the owner already prevent two servers from disagreeing about a gate.
            Self::Begin { .. } | Self::Run { .. } => false,
        }
    }
}

/// The steps that are possible now, in any order.
pub fn decide(task: &GangTask, now: Timestamp) -> Vec<Action> {
    let mut actions = steps(task, now);
    let outlived: Vec<Outlived> = task.nodes.iter().filter_map(outlived).collect();
    if !outlived.is_empty() {
        actions.push(Action::EndOthers { nodes: outlived });
    }
    if !task.outdated.is_empty() {
        let jobs = task.outdated.iter().map(|job| target(&job.name, &job.uid));
        actions.push(Action::Remove { jobs: jobs.collect() });
    }
    actions
}

fn steps(task: &GangTask, now: Timestamp) -> Vec<Action> {
    if let Some(next) = next_attempt(task) {
        return vec![next];
    }
    let any = |is: fn(&Job) -> bool| task.nodes.iter().any(|(job, _)| is(job));
    if !any(|job| job.gang.is_some()) {
        return Vec::new();
    }
    if let Some(failed) = first_failure(task) {
        return end_all(task, failed);
    }
    // Don't open a gate for a task that is about to end for lack of resources, or whose Job somebody suspended.
    let turn = task.turn();
    let is_its_turn = matches!(turn.stage, Stage::Waiting | Stage::Begun);
    if !is_its_turn || any(|job| job.provision_timed_out.is_some() || job.suspended) {
        return Vec::new();
    }
    open_gate(task, now).into_iter().collect()
}

fn outlived((job, pod): &(Job, Option<Pod>)) -> Option<Outlived> {
    let pod = pod
        .as_ref()
        .filter(|pod| pod.outlived && !pod.is_told_to_end && !pod.terminating)?;
    let Phase::Ended(end) = &pod.phase else { return None };
    Some(Outlived {
        job: target(&job.name, &job.uid),
        pod: target(&pod.name, &pod.uid),
        exit_code: end.exit_code?,
    })
}

/// Ends every unfinished node because this one failed.
pub fn end_all(task: &GangTask, because_of: u32) -> Vec<Action> {
    let (mut pods, mut jobs) = (Vec::new(), Vec::new());
    for (job, pod) in &task.nodes {
        if job.is_over() || job.ended_because_of.is_some() {
            continue;
        }
        match pod {
            Some(pod) if matches!(pod.phase, Phase::Ended(_)) || pod.ended_because_of.is_some() => {}
            Some(pod) if pod.node_name.is_some() => pods.push(target(&pod.name, &pod.uid)),
            _ => jobs.push(target(&job.name, &job.uid)),
        }
    }
    let is_nothing = pods.is_empty() && jobs.is_empty();
    let end = Action::End { pods, jobs, because_of };
    if is_nothing { Vec::new() } else { vec![end] }
}

/// The gate that can be opened now: the start gate once all nodes run, the run gate once the setup of all has ended.
fn open_gate(task: &GangTask, now: Timestamp) -> Option<Action> {
    let pods = all_running(task)?;
    let waiting: Vec<&&Pod> = pods.iter().filter(|pod| !pod.may_begin).collect();
    if !waiting.is_empty() {
        let addresses: Vec<&str> = pods.iter().map(|pod| pod.ip.as_deref()).collect::<Option<_>>()?;
        let with_deadline = |pod: &&&Pod| (target(&pod.name, &pod.uid), deadline(task, &pods, pod, now));
        return Some(Action::Begin {
            pods: waiting.iter().map(with_deadline).collect(),
            node_ips: addresses.join("\n"),
        });
    }
    let has_setup = task.nodes.iter().any(|(job, _)| job.gang == Some(Gang::Setup));
    let has_ended = |pod: &Pod| matches!(pod.phase, Phase::Ended(_));
    // Readiness counts only once: a probe may fail again after the run gate opened. A node that ended was set up.
    let is_set_up = |pod: &&Pod| pod.ready || pod.may_run || has_ended(pod);
    let waiting: Vec<Target> = pods
        .iter()
        .filter(|pod| !pod.may_run && !has_ended(pod))
        .map(|pod| target(&pod.name, &pod.uid))
        .collect();
    let opens = has_setup && !waiting.is_empty() && pods.iter().all(is_set_up);
    opens.then_some(Action::Run { pods: waiting })
}

/// The deadline of a pod. The kubelet counts it from when it accepted the pod, so the time spent waiting for the other
/// nodes, and for a server to open the gate, is added. The nodes' start times guard against a server clock that is
/// behind.
fn deadline(task: &GangTask, pods: &[&Pod], pod: &Pod, now: Timestamp) -> Option<i64> {
    let (job, _) = task.nodes.first()?;
    let seconds = i64::from(job.max_duration?);
    let starts = pods.iter().filter_map(|pod| match pod.phase {
        Phase::Running { since } => since,
        Phase::Pending(_) | Phase::Ended(_) => None,
    });
    let begins = starts.max().map_or(now, |last| last.max(now));
    let waited = begins.as_second() - pod.accepted_at?.as_second();
    Some(seconds + waited.max(0))
}

/// The next attempt, if it is due or another server has created only some of its Jobs.
fn next_attempt(task: &GangTask) -> Option<Action> {
    let (job, _) = task.nodes.first()?;
    if let Some(restart) = task.restart {
        return Some(Action::MakeAttempt {
            from: task.nodes.iter().map(|(job, _)| target(&job.name, &job.uid)).collect(),
            attempt: job.attempt + 1,
            restarts: job.restarts + u32::from(restart.counts),
        });
    }
    let is_made = |rank: u32| task.nodes.iter().any(|(job, _)| job.rank == rank);
    let missing: Vec<Target> = task
        .before
        .iter()
        .filter(|before| !is_made(before.rank))
        .map(|before| target(&before.name, &before.uid))
        .collect();
    (!missing.is_empty()).then_some(Action::MakeAttempt {
        from: missing,
        attempt: job.attempt,
        restarts: job.restarts,
    })
}

/// The rank of the first node that failed on its own.
fn first_failure(task: &GangTask) -> Option<u32> {
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
fn all_running(task: &GangTask) -> Option<Vec<&Pod>> {
    if task.nodes.len() != usize::try_from(task.num_nodes).ok()? {
        return None;
    }
    let running = |pod: &&Pod| match pod.phase {
        Phase::Running { .. } => !pod.terminating,
        // While the start gate is being opened, a node that went first may already have ended.
        Phase::Ended(_) => pod.may_begin,
        Phase::Pending(_) => false,
    };
    task.nodes.iter().map(|(_, pod)| pod.as_ref().filter(running)).collect()
}

pub fn target(name: &str, uid: &str) -> Target {
    (name.to_owned(), uid.to_owned())
}

#[cfg(test)]
mod tests;
