//! Decides what to do about a Job: a pure function of the Job, its pods, and the time.
//!
//! The rules are those of Kubernetes 1.37's Job controller for non-indexed Jobs:
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/>.

use jiff::Timestamp;

/// Back-off after the first failed pod, in seconds. Each further failure doubles it.
const FIRST_BACKOFF: i64 = 10;
/// Maximum back-off, in seconds.
const LONGEST_BACKOFF: i64 = 600;

/// The facts about a Job that a decision depends on.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct JobFacts {
    pub parallelism: i64,
    pub completions: Option<i64>,
    pub backoff_limit: i64,
    pub active_deadline: Option<i64>,
    pub ttl: Option<i64>,
    pub suspended: bool,
    pub deleting: bool,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub succeeded: i64,
    pub failed: i64,
    /// Whether its condition `Suspended` is true.
    pub has_suspended_condition: bool,
    /// Why it is failing (`FailureTarget`) or has failed (`Failed`).
    pub failure: Option<JobFailure>,
    pub is_failed: bool,
    /// Whether it is succeeding (`SuccessCriteriaMet`) or complete (`Complete`).
    pub is_succeeding: bool,
    pub is_complete: bool,
}

/// The facts about one of its pods.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PodFacts {
    pub end: Option<PodEnd>,
    pub ready: bool,
    pub deleting: bool,
    /// Whether it has the tracking finalizer, i.e., has yet to be counted.
    pub tracked: bool,
}

/// How a pod finished.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PodEnd {
    pub succeeded: bool,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobFailure {
    pub reason: String,
    pub message: String,
}

/// What to do, and the Job's new status.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct JobDecision {
    /// Indices of pods to count now.
    pub count: Vec<usize>,
    /// Indices of pods to delete.
    pub delete: Vec<usize>,
    /// Number of pods to create.
    pub create: usize,
    /// Whether to delete the Job itself.
    pub delete_job: bool,
    /// Whether pods were counted. The rest is decided in a moment, after clients have seen how the pods finished.
    pub requeue_soon: bool,
    /// Seconds after which to decide again.
    pub requeue_after: Option<i64>,
    /// The new state of the Job.
    pub job: JobFacts,
    pub active: usize,
    pub ready: usize,
    pub terminating: usize,
}

pub(super) fn decide(job: &JobFacts, pods: &[PodFacts], now: Timestamp) -> JobDecision {
    let mut decision = JobDecision {
        job: job.clone(),
        ..JobDecision::default()
    };
    for (index, pod) in pods.iter().enumerate() {
        if pod.tracked && (pod.end.is_some() || pod.deleting) {
            decision.count.push(index);
            let over = job.is_failed || job.is_complete;
            match pod.end {
                // The counts of a finished Job no longer change.
                _ if over => {}
                Some(PodEnd { succeeded: true, .. }) => {
                    decision.job.succeeded = decision.job.succeeded.saturating_add(1)
                }
                _ => decision.job.failed = decision.job.failed.saturating_add(1),
            }
        }
    }
    let runs = |pod: &PodFacts| pod.end.is_none() && !pod.deleting;
    decision.active = pods.iter().filter(|pod| runs(pod)).count();
    decision.ready = pods.iter().filter(|pod| runs(pod) && pod.ready).count();
    decision.terminating = pods.iter().filter(|pod| pod.end.is_none() && pod.deleting).count();
    if job.deleting {
        return decision;
    }
    if !decision.count.is_empty() {
        decision.requeue_soon = true;
        return decision;
    }
    if job.is_failed || job.is_complete {
        apply_ttl(&mut decision, now);
        return decision;
    }
    if decision.job.started.is_none() && !job.suspended {
        decision.job.started = Some(now);
    }
    evaluate(&mut decision, now);
    if decision.job.failure.is_some() || decision.job.is_succeeding {
        finish_job(&mut decision, pods, now);
    } else {
        scale(&mut decision, pods, now);
    }
    decision
}

/// Removes a finished Job when its time to live has passed.
fn apply_ttl(decision: &mut JobDecision, now: Timestamp) {
    let Some(seconds) = decision.job.ttl else {
        return;
    };
    let ended = decision.job.ended.unwrap_or(now);
    let left = ended.as_second().saturating_add(seconds) - now.as_second();
    if left <= 0 {
        decision.delete_job = true;
    } else {
        decision.requeue_after = Some(left);
    }
}

/// Decides whether the Job has failed or succeeded.
fn evaluate(decision: &mut JobDecision, now: Timestamp) {
    let job = &mut decision.job;
    if job.failure.is_some() || job.is_succeeding {
        return;
    }
    let failure = |reason: &str, message: &str| {
        Some(JobFailure {
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    };
    if job.failed > job.backoff_limit {
        job.failure = failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        return;
    }
    if let (Some(seconds), Some(started), false) = (job.active_deadline, job.started, job.suspended) {
        let left = started.as_second().saturating_add(seconds) - now.as_second();
        if left <= 0 {
            job.failure = failure("DeadlineExceeded", "Job was active longer than specified deadline");
            return;
        }
        decision.requeue_after = Some(left);
    }
    job.is_succeeding = match job.completions {
        Some(desired) => job.succeeded >= desired,
        None => job.succeeded > 0 && decision.active == 0,
    };
}

/// Deletes the remaining pods, and finishes the Job once they are gone.
fn finish_job(decision: &mut JobDecision, pods: &[PodFacts], now: Timestamp) {
    decision.requeue_after = None;
    decision.delete = (0..pods.len())
        .filter(|index| pods[*index].end.is_none() && !pods[*index].deleting)
        .collect();
    decision.terminating += decision.delete.len();
    if decision.job.failure.is_some() {
        // Pods that are deleted because the Job failed count as failed.
        let ended = i64::try_from(decision.delete.len()).unwrap_or(0);
        decision.job.failed = decision.job.failed.saturating_add(ended);
    }
    decision
        .count
        .extend(decision.delete.iter().filter(|index| pods[**index].tracked));
    decision.active = 0;
    decision.ready = 0;
    if decision.terminating == 0 {
        decision.job.is_failed = decision.job.failure.is_some();
        decision.job.is_complete = !decision.job.is_failed;
        decision.job.ended = Some(now);
        apply_ttl(decision, now);
    }
}

/// Creates or deletes pods to get the wanted number of active ones.
fn scale(decision: &mut JobDecision, pods: &[PodFacts], now: Timestamp) {
    let job = &mut decision.job;
    job.has_suspended_condition |= job.suspended;
    if job.suspended {
        job.started = None;
    } else if job.has_suspended_condition && job.started.is_none() {
        job.started = Some(now);
    }
    let desired = match job.completions {
        _ if job.suspended => 0,
        Some(completions) => job.parallelism.min(completions.saturating_sub(job.succeeded)),
        // Without `completions`, no pods are added once one has succeeded.
        None if job.succeeded > 0 => i64::try_from(decision.active).unwrap_or(0).min(job.parallelism),
        None => job.parallelism,
    };
    let desired = usize::try_from(desired.max(0)).unwrap_or(0);
    if decision.active > desired {
        // Pods that are not ready lose the least work.
        let mut running: Vec<usize> = (0..pods.len())
            .filter(|index| pods[*index].end.is_none() && !pods[*index].deleting)
            .collect();
        running.sort_by_key(|index| pods[*index].ready);
        decision.delete = running[..decision.active - desired].to_vec();
        return;
    }
    let missing = desired - decision.active;
    if missing == 0 {
        return;
    }
    let delay = backoff(pods, now);
    if delay > 0 {
        decision.requeue_after = Some(decision.requeue_after.map_or(delay, |other| other.min(delay)));
    } else {
        decision.create = missing;
        decision.active += missing;
    }
}

/// Seconds to wait before creating pods, because of failures since the last success.
fn backoff(pods: &[PodFacts], now: Timestamp) -> i64 {
    let ends = || pods.iter().filter_map(|pod| pod.end);
    let last_success = ends().filter(|end| end.succeeded).map(|end| end.at).max();
    let failures = ends().filter(|end| !end.succeeded && last_success.is_none_or(|time| end.at > time));
    let (count, last) = failures.fold((0_u32, None), |(count, last), end| (count + 1, last.max(Some(end.at))));
    let Some(last) = last else { return 0 };
    let delay = FIRST_BACKOFF
        .saturating_mul(1 << (count - 1).min(10))
        .min(LONGEST_BACKOFF);
    last.as_second() + delay - now.as_second()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{JobDecision, JobFacts, PodEnd, PodFacts, decide};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn job() -> JobFacts {
        JobFacts {
            parallelism: 1,
            completions: Some(1),
            ..JobFacts::default()
        }
    }

    fn running() -> PodFacts {
        PodFacts {
            end: None,
            ready: true,
            deleting: false,
            tracked: true,
        }
    }

    fn ended(succeeded: bool) -> PodFacts {
        PodFacts {
            end: Some(PodEnd { succeeded, at: at(50) }),
            ready: false,
            ..running()
        }
    }

    /// The decision after all pods have been counted.
    fn settled(job: &JobFacts, pods: &[PodFacts], now: Timestamp) -> JobDecision {
        let counted = decide(job, pods, now);
        if !counted.requeue_soon {
            return counted;
        }
        let mut pods = pods.to_vec();
        for index in &counted.count {
            pods[*index].tracked = false;
        }
        decide(&counted.job, &pods, now)
    }

    #[test]
    fn pods_are_counted_once_and_before_anything_follows() {
        let counted = decide(&job(), &[ended(true)], at(100));
        assert!(counted.requeue_soon && counted.count == [0] && counted.job.succeeded == 1 && !counted.job.is_complete);
    }

    #[test]
    fn a_new_job_makes_its_pods_and_starts() {
        let decision = decide(&job(), &[], at(100));
        assert_eq!((decision.create, decision.active), (1, 1));
        assert_eq!(decision.job.started, Some(at(100)));
    }

    #[test]
    fn a_job_is_complete_when_enough_pods_have_succeeded() {
        let decision = settled(&job(), &[ended(true)], at(100));
        assert!(decision.job.is_complete && decision.job.succeeded == 1);
        assert_eq!(decision.job.ended, Some(at(100)));
    }

    #[test]
    fn a_job_fails_when_more_pods_failed_than_it_allows() {
        let decision = settled(&job(), &[ended(false)], at(100));
        assert!(decision.job.is_failed);
        assert_eq!(decision.job.failure.unwrap().reason, "BackoffLimitExceeded");
        let patient = JobFacts {
            backoff_limit: 1,
            ..job()
        };
        let decision = settled(&patient, &[ended(false)], at(55));
        assert_eq!((decision.create, decision.requeue_after), (0, Some(5)));
        assert_eq!(settled(&patient, &[ended(false)], at(60)).create, 1);
    }

    #[test]
    fn a_deadline_ends_what_runs_and_then_the_job() {
        let late = JobFacts {
            active_deadline: Some(10),
            started: Some(at(0)),
            ..job()
        };
        assert_eq!(decide(&late, &[running()], at(4)).requeue_after, Some(6));
        let decision = decide(&late, &[running()], at(10));
        assert_eq!(decision.delete, [0]);
        assert!(!decision.job.is_failed && decision.job.failure.is_some());
        let gone = PodFacts {
            deleting: true,
            tracked: false,
            ..running()
        };
        assert!(!decide(&decision.job, std::slice::from_ref(&gone), at(11)).job.is_failed);
        assert!(decide(&decision.job, &[], at(12)).job.is_failed);
    }

    #[test]
    fn a_suspended_job_has_no_pods_and_starts_anew_when_resumed() {
        let suspended = JobFacts {
            suspended: true,
            started: Some(at(1)),
            ..job()
        };
        let decision = decide(&suspended, &[running()], at(10));
        assert_eq!(decision.delete, [0]);
        assert_eq!(decision.job.started, None);
        let resumed = JobFacts {
            suspended: false,
            ..decision.job
        };
        let decision = decide(&resumed, &[], at(20));
        assert_eq!((decision.create, decision.job.started), (1, Some(at(20))));
    }

    #[test]
    fn a_job_goes_when_its_time_to_live_is_over() {
        let over = JobFacts {
            is_complete: true,
            ended: Some(at(100)),
            ttl: Some(5),
            ..job()
        };
        assert_eq!(decide(&over, &[], at(103)).requeue_after, Some(2));
        assert!(decide(&over, &[], at(105)).delete_job);
    }

    fn pods() -> impl Strategy<Value = Vec<PodFacts>> {
        let pod = (any::<Option<bool>>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(end, ready, deleting, tracked)| PodFacts {
                end: end.map(|succeeded| PodEnd { succeeded, at: at(50) }),
                ready,
                deleting,
                tracked,
            },
        );
        proptest::collection::vec(pod, 0..6)
    }

    proptest! {
        #[test]
        fn no_more_pods_run_than_shall_run_and_no_end_is_undone(
            parallelism in 0_i64..4, completions in proptest::option::of(0_i64..4), limit in 0_i64..3,
            suspended: bool, pods in pods(),
        ) {
            let job = JobFacts { parallelism, completions, backoff_limit: limit, suspended, ..JobFacts::default() };
            let decision = settled(&job, &pods, at(1000));
            let alive = pods.iter().filter(|pod| pod.end.is_none() && !pod.deleting).count();
            let after = alive - decision.delete.len() + decision.create;
            prop_assert!(after <= usize::try_from(parallelism).unwrap() || decision.create == 0);
            prop_assert!(decision.create == 0 || decision.delete.is_empty());
            prop_assert!(!(decision.job.is_complete && decision.job.is_failed));
            let over = decision.job.is_complete || decision.job.is_failed;
            let again = decide(&decision.job, &[], at(1001));
            if over {
                prop_assert_eq!(&again, &JobDecision { job: decision.job.clone(), ..JobDecision::default() });
            }
        }
    }
}
