//! Which gates are opened and which nodes are ended, whatever has become of the nodes of a task.

use jiff::Timestamp;
use proptest::prelude::*;
use task::TaskState;

use super::{Action, ManagedTask};
use crate::cache::{
    EndCause, Gang, Gate, HeldJob, Job, JobEnd, Phase, Pod, PodEnd, Reason, Restart, Stage, TaskOwner, Turn,
};
use crate::kubernetes::ObjectRef;

fn decide(task: &ManagedTask) -> Vec<Action> {
    super::decide(task, Timestamp::UNIX_EPOCH)
}

fn job(rank: u32, num_nodes: u32) -> Job {
    Job {
        gang: Some(Gang::Setup),
        ..Job::example(rank, num_nodes)
    }
}

fn pod(rank: u32, phase: Phase) -> Pod {
    Pod::example(rank, phase)
}

fn running() -> Phase {
    Phase::Running { since: None }
}

fn ended(state: TaskState, second: i64) -> Phase {
    Phase::Ended(PodEnd {
        state,
        reason: None,
        exit_code: Some(i32::from(state == TaskState::Failed)),
        has_run: true,
        started_at: None,
        finished_at: Some(Timestamp::from_second(second).unwrap()),
    })
}

fn gang(pods: Vec<Option<Pod>>) -> ManagedTask {
    let num_nodes = u32::try_from(pods.len()).unwrap();
    let nodes = pods.into_iter().zip(0..);
    ManagedTask {
        num_nodes,
        nodes: nodes.map(|(pod, rank)| (job(rank, num_nodes), pod)).collect(),
        ..ManagedTask::default()
    }
}

#[test]
fn nobody_begins_before_all_run() {
    let waits = || pod(1, Phase::Pending(None));
    assert_eq!(decide(&gang(vec![Some(pod(0, running())), None])), []);
    assert_eq!(decide(&gang(vec![Some(pod(0, running())), Some(waits())])), []);
    let mut one_is_missing = gang(vec![Some(pod(0, running()))]);
    one_is_missing.num_nodes = 2;
    assert_eq!(decide(&one_is_missing), []);
    let going = Pod {
        terminating: true,
        ..pod(1, running())
    };
    assert_eq!(decide(&gang(vec![Some(pod(0, running())), Some(going)])), []);
}

#[test]
fn all_are_told_all_addresses_in_rank_order() {
    let actions = decide(&gang((0..3).map(|rank| Some(pod(rank, running()))).collect()));
    let [Action::OpenStartGate { pods, node_ips }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!((pods.len(), node_ips.as_str()), (3, "10.0.0.0\n10.0.0.1\n10.0.0.2"));
}

#[test]
fn a_server_that_was_killed_between_two_pods_is_continued() {
    let told = Pod {
        gate: Gate::Start,
        ..pod(0, running())
    };
    let actions = decide(&gang(vec![Some(told), Some(pod(1, running()))]));
    let [Action::OpenStartGate { pods, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(pods, &[(ObjectRef::new("pod-1", "pod-1"), None)]);
}

#[test]
fn nobody_runs_before_every_setup_has_ended() {
    let begun = |rank, ready| Pod {
        gate: Gate::Start,
        ready,
        ..pod(rank, running())
    };
    assert_eq!(decide(&gang(vec![Some(begun(0, true)), Some(begun(1, false))])), []);
    let actions = decide(&gang(vec![Some(begun(0, true)), Some(begun(1, true))]));
    assert!(
        matches!(actions.as_slice(), [Action::OpenRunGate { pods }] if pods.len() == 2),
        "{actions:?}"
    );
    // A running node may no longer be ready; its setup counts only once.
    let runs = Pod {
        gate: Gate::Run,
        ..begun(0, false)
    };
    let actions = decide(&gang(vec![Some(runs), Some(begun(1, true))]));
    assert!(
        matches!(actions.as_slice(), [Action::OpenRunGate { pods }] if pods.len() == 1),
        "{actions:?}"
    );
}

#[test]
fn a_node_that_is_done_in_its_setup_does_not_keep_the_others() {
    let done = Pod {
        gate: Gate::Start,
        ..pod(0, ended(TaskState::Completed, 1))
    };
    let set_up = Pod {
        gate: Gate::Start,
        ready: true,
        ..pod(1, running())
    };
    let actions = decide(&gang(vec![Some(done), Some(set_up)]));
    assert!(
        matches!(actions.as_slice(), [Action::OpenRunGate { pods }] if pods.len() == 1),
        "{actions:?}"
    );
}

#[test]
fn the_time_that_a_node_has_waited_for_the_others_is_not_counted() {
    let at = |second| Some(Timestamp::from_second(second).unwrap());
    let waits = |rank, accepted, since| Pod {
        accepted_at: at(accepted),
        ..pod(rank, Phase::Running { since: at(since) })
    };
    let mut task = gang(vec![Some(waits(0, 100, 101)), Some(waits(1, 500, 502))]);
    task.nodes[0].0.max_duration = Some(60);
    let actions = decide(&task);
    let [Action::OpenStartGate { pods, .. }] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let deadlines: Vec<Option<i64>> = pods.iter().map(|(_, deadline)| *deadline).collect();
    assert_eq!(deadlines, [Some(462), Some(62)]);
    // The server was down for a while after all nodes ran.
    let late = super::decide(&task, Timestamp::from_second(602).unwrap());
    let [Action::OpenStartGate { pods, .. }] = late.as_slice() else {
        panic!("{late:?}")
    };
    assert_eq!(pods[1].1, Some(162));
}

#[test]
fn the_first_failure_ends_all_others_and_is_named() {
    let unscheduled = Pod {
        node_name: None,
        ..pod(3, Phase::Pending(None))
    };
    let actions = decide(&gang(vec![
        Some(pod(0, ended(TaskState::Failed, 9))),
        Some(pod(1, ended(TaskState::Failed, 5))),
        Some(pod(2, running())),
        Some(unscheduled),
        None,
        Some(pod(5, ended(TaskState::Completed, 1))),
    ]));
    let name = |kind: &str, rank: u32| {
        let name = format!("{kind}-{rank}");
        ObjectRef::new(&name, &name)
    };
    let end = Action::EndNodes {
        pods: vec![name("pod", 2)],
        jobs: vec![name("job", 3), name("job", 4)],
        held: Vec::new(),
        because_of: EndCause::NodeFailed(1),
    };
    assert_eq!(actions, [end]);
}

#[test]
fn what_was_ended_is_no_failure_of_its_own() {
    let ended_by_us = Pod {
        ended_because_of: Some(EndCause::NodeFailed(1)),
        ..pod(0, ended(TaskState::Failed, 1))
    };
    let going = Pod {
        ended_because_of: Some(EndCause::NodeFailed(1)),
        ..pod(2, running())
    };
    let actions = decide(&gang(vec![
        Some(ended_by_us),
        Some(pod(1, ended(TaskState::Failed, 5))),
        Some(going),
    ]));
    assert_eq!(actions, []);
}

#[test]
fn a_pod_that_was_deleted_is_a_failure() {
    let mut task = gang(vec![None, Some(pod(1, running()))]);
    task.nodes[0].0.end = Some(JobEnd::Failed(Reason {
        reason: "BackoffLimitExceeded".to_owned(),
        message: String::new(),
    }));
    let actions = decide(&task);
    assert!(
        matches!(
            actions.as_slice(),
            [Action::EndNodes {
                because_of: EndCause::NodeFailed(0),
                ..
            }]
        ),
        "{actions:?}"
    );
}

#[test]
fn the_next_attempt_has_a_job_for_each_node() {
    let mut task = gang(
        (0..2)
            .map(|rank| Some(pod(rank, ended(TaskState::Failed, 1))))
            .collect(),
    );
    task.restart = Some(Restart {
        counts: true,
        is_due: true,
    });
    let actions = decide(&task);
    let [
        Action::CreateAttempt {
            from,
            attempt: 2,
            restarts: 1,
        },
    ] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!(from.len(), 2);
}

#[test]
fn an_attempt_that_another_server_has_begun_to_make_is_continued() {
    let mut task = gang(vec![Some(pod(0, running()))]);
    task.num_nodes = 2;
    task.previous = vec![job(0, 2), job(1, 2)];
    task.nodes[0].0.attempt = 3;
    task.nodes[0].0.restarts = 1;
    let actions = decide(&task);
    let [
        Action::CreateAttempt {
            from,
            attempt: 3,
            restarts: 1,
        },
    ] = actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!(from, &[ObjectRef::new("job-1", "job-1")]);
}

#[test]
fn one_that_had_no_place_in_time_does_not_begin_in_its_last_second() {
    let mut task = gang((0..2).map(|rank| Some(pod(rank, running()))).collect());
    task.nodes[1].0.provision_timed_out = Some("full".into());
    assert_eq!(decide(&task), []);
}

#[test]
fn a_failure_ends_those_that_wait_in_a_queue_too() {
    let mut task = gang(vec![Some(pod(0, ended(TaskState::Failed, 1))), None]);
    task.nodes[1].0.suspended = true;
    let actions = decide(&task);
    assert!(
        matches!(actions.as_slice(), [Action::EndNodes { jobs, because_of: EndCause::NodeFailed(0), .. }] if jobs.len() == 1),
        "{actions:?}"
    );
    task.nodes[1].0.ended_because_of = Some(EndCause::NodeFailed(0));
    assert!(task.nodes[1].0.is_over());
    assert_eq!(decide(&task), []);
}

#[test]
fn what_is_too_long_ago_is_removed() {
    let task = ManagedTask {
        outdated: vec![job(0, 1)],
        ..gang(vec![Some(pod(0, running()))])
    };
    let remove = Action::DeleteJobs {
        jobs: vec![ObjectRef::new("job-0", "job-0")],
    };
    assert!(decide(&task).contains(&remove));
}

/// A node at an arbitrary moment of its life.
fn any_node(rank: u32) -> impl Strategy<Value = Option<Pod>> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0..5_u8, flags).prop_map(move |(phase, (may_start, may_run, ready, scheduled))| {
        let phase = match phase {
            0 => return None,
            1 => Phase::Pending(None),
            2 => ended(TaskState::Completed, 1),
            3 => ended(TaskState::Failed, 2),
            _ => running(),
        };
        let is_pending = matches!(phase, Phase::Pending(_));
        Some(Pod {
            gate: match (may_start && !is_pending, may_run) {
                (false, _) => Gate::Closed,
                (true, false) => Gate::Start,
                (true, true) => Gate::Run,
            },
            ready,
            node_name: (scheduled || !is_pending).then(|| "machine".to_owned()),
            ..pod(rank, phase)
        })
    })
}

/// A task of two nodes that its group has created, and not started or started.
fn held_by_group(stage: Stage) -> ManagedTask {
    let mut task = gang(vec![None, None]);
    for (job, _) in &mut task.nodes {
        (job.held, job.suspended) = (Some(Box::default()), true);
    }
    let turn = Some(Turn { attempt: 1, stage });
    task.owner = Some(TaskOwner {
        turn,
        ..TaskOwner::example()
    });
    task
}

#[test]
fn a_held_task_starts_once_its_group_has_started_it() {
    assert_eq!(decide(&held_by_group(Stage::Held)), []);
    let jobs = [0, 1].map(|rank| {
        let name = format!("job-{rank}");
        (ObjectRef::new(&name, &name), HeldJob::default())
    });
    assert_eq!(
        decide(&held_by_group(Stage::Waiting)),
        [Action::StartJobs { jobs: jobs.to_vec() }]
    );
}

#[test]
fn a_held_task_that_is_canceled_never_starts() {
    let actions = decide(&held_by_group(Stage::Cancelled));
    let [Action::EndNodes { pods, jobs, held, .. }] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert_eq!((pods.len(), jobs.len(), held.len()), (0, 0, 2));
}

proptest! {
    /// In any situation, a failure ends every other node and opens no gate. Without a failure, no node is ended, and a
    /// gate opens only if all nodes run.
    #[test]
    fn gates_and_ends_exclude_each_other(pods in (any_node(0), any_node(1), any_node(2))) {
        let pods = vec![pods.0, pods.1, pods.2];
        let is_failed = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| matches!(&pod.phase, Phase::Ended(end) if end.state == TaskState::Failed));
        let is_over = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| matches!(pod.phase, Phase::Ended(_)));
        let is_up = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| !matches!(pod.phase, Phase::Pending(_)));
        let actions = decide(&gang(pods.clone()));
        if pods.iter().any(is_failed) {
            let unended = pods.iter().filter(|pod| !is_over(pod)).count();
            let ended = actions.iter().map(|action| match action {
                Action::EndNodes { pods, jobs, .. } => pods.len() + jobs.len(),
                other => panic!("{other:?}"),
            });
            prop_assert_eq!(ended.sum::<usize>(), unended);
        } else if !pods.iter().all(is_up) {
            prop_assert_eq!(actions, []);
        } else {
            let opens = actions.iter().all(|action| matches!(action, Action::OpenStartGate { .. } | Action::OpenRunGate { .. }));
            prop_assert!(opens && actions.len() <= 1);
        }
    }

    /// A canceled task ends every node that has not ended, and nothing else happens to it, whatever the situation.
    #[test]
    fn a_canceled_task_only_ends(
        pods in (any_node(0), any_node(1), any_node(2)), in_owner in any::<bool>(), restart in any::<bool>(),
    ) {
        let pods = vec![pods.0, pods.1, pods.2];
        let is_over = |pod: &Option<Pod>| pod.as_ref().is_some_and(|pod| matches!(pod.phase, Phase::Ended(_)));
        let unended = pods.iter().filter(|pod| !is_over(pod)).count();
        let mut task = gang(pods);
        task.restart = restart.then_some(Restart { counts: true, is_due: true });
        if in_owner {
            let turn = Some(Turn { attempt: 1, stage: Stage::Cancelled });
            task.owner = Some(TaskOwner { turn, ..TaskOwner::example() });
        } else {
            task.nodes[0].0.cancelled = true;
        }
        let ended = decide(&task).into_iter().map(|action| match action {
            Action::EndNodes { pods, jobs, because_of: EndCause::Cancelled, .. } => pods.len() + jobs.len(),
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(ended.sum::<usize>(), unended);
    }
}
