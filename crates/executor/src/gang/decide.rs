//! What a task with several nodes needs next.

use jiff::Timestamp;
use task::State;

use crate::cache::{Gang, GangTask, Job, JobEnd, Phase, Pod, Stage, has_completed};

/// An object to be changed: its name and uid.
pub type Target = (String, String);

/// A step towards what shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// All nodes run: tell these their addresses, and so let them begin; each with its deadline in seconds, if it has one.
    Begin {
        pods: Vec<(Target, Option<i64>)>,
        node_ips: String,
    },
    /// The setup of all has ended: let these run.
    Run { pods: Vec<Target> },
    /// End nodes because this one has failed: their pods by TERM, the grace period and KILL, so that their logs stay; of nodes
    /// that have no pod on a machine yet, their Jobs.
    End {
        pods: Vec<Target>,
        jobs: Vec<Target>,
        because_of: u32,
    },
    /// End the other containers of pods whose own container has ended, and keep how that was, which their end would hide.
    EndOthers { nodes: Vec<Outlived> },
    /// Delete Jobs, with their pods and logs.
    Remove { jobs: Vec<Target> },
    /// Make the Jobs of an attempt from those of the attempt before.
    MakeAttempt {
        from: Vec<Target>,
        attempt: u32,
        restarts: u32,
    },
}

/// A node whose container has ended while others in its pod go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlived {
    pub job: Target,
    pub pod: Target,
    pub exit_code: i32,
}

impl Action {
    /// Whether it cannot be undone by anything that happens later: then Kubernetes is looked at before.
    pub fn is_final(&self) -> bool {
        match self {
            Self::End { .. } | Self::EndOthers { .. } | Self::Remove { .. } | Self::MakeAttempt { .. } => true,
            // Opening a gate is decided between servers by their turns.
            Self::Begin { .. } | Self::Run { .. } => false,
        }
    }
}

/// The steps that can be taken now, in any order.
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
    // What is about to end because it had no place must not begin in its last second, nor what somebody holds back.
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

/// Ends every node that has not ended, because of this one.
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

/// The gate that can be opened now: the first when all nodes run, the second when the setup of all has ended.
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
    // Who may run already was ready once: what it does since is no setup. Who has ended said in its setup that it is done.
    let is_set_up = |pod: &&Pod| pod.ready || pod.may_run || has_ended(pod);
    let waiting: Vec<Target> = pods
        .iter()
        .filter(|pod| !pod.may_run && !has_ended(pod))
        .map(|pod| target(&pod.name, &pod.uid))
        .collect();
    let opens = has_setup && !waiting.is_empty() && pods.iter().all(is_set_up);
    opens.then_some(Action::Run { pods: waiting })
}

/// The deadline of a pod, which the kubelet counts from when it accepted the pod: what it has waited for the others and for a
/// server, and what it may run. Should our clock be behind those of the cluster, they count.
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

/// An attempt that is due, or that another server has begun to make.
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

/// The rank of the node that failed by itself, the first one of several.
fn first_failure(task: &GangTask) -> Option<u32> {
    let failed = task.nodes.iter().filter_map(|(job, pod)| {
        if job.ended_because_of.is_some() || pod.as_ref().is_some_and(|pod| pod.ended_because_of.is_some()) {
            return None;
        }
        if has_completed(job, pod.as_ref()) {
            return None;
        }
        match (&job.end, pod.as_ref().map(|pod| &pod.phase)) {
            // One that is being deleted may be so because its task gives way; the Job says what it was.
            (None, _) if pod.as_ref().is_some_and(|pod| pod.terminating) => None,
            // How it ended is about to be seen.
            (Some(JobEnd::Failed(_)), Some(Phase::Running { .. }))
                if pod.as_ref().is_some_and(|pod| !pod.terminating) =>
            {
                None
            }
            (_, Some(Phase::Ended(end))) if end.state == State::Failed => {
                Some((end.finished_at.is_none(), end.finished_at, job.rank))
            }
            (Some(JobEnd::Failed(_)), _) => Some((true, None, job.rank)),
            // A suspended Job whose task is over ends no further.
            (None, None) if job.provision_timed_out.is_some() && job.is_over() => Some((true, None, job.rank)),
            _ => None,
        }
    });
    failed.min().map(|(_, _, rank)| rank)
}

/// The pods in rank order, if every node has one that runs, or has run.
fn all_running(task: &GangTask) -> Option<Vec<&Pod>> {
    if task.nodes.len() != usize::try_from(task.num_nodes).ok()? {
        return None;
    }
    let running = |pod: &&Pod| match pod.phase {
        Phase::Running { .. } => !pod.terminating,
        // A node that was let begin may have ended while others are still told so.
        Phase::Ended(_) => pod.may_begin,
        Phase::Pending(_) => false,
    };
    task.nodes.iter().map(|(_, pod)| pod.as_ref().filter(running)).collect()
}

/// An object by its name and uid.
pub fn target(name: &str, uid: &str) -> Target {
    (name.to_owned(), uid.to_owned())
}

#[cfg(test)]
mod tests;
