//! Splits the Jobs of a task by attempt, and finds the newest pod of each.

use std::collections::HashMap;

use super::job::Job;
use super::object::Pod;

/// The Jobs of a task, sorted by attempt and rank.
#[derive(Clone, Copy)]
pub(crate) struct Attempts<'a> {
    /// The Jobs of all attempts but the newest.
    pub earlier: &'a [Job],
    /// The Jobs of the newest attempt.
    pub current: &'a [Job],
}

impl<'a> Attempts<'a> {
    /// Splits sorted Jobs at the newest attempt.
    pub(crate) fn of(jobs: &'a [Job]) -> Self {
        let newest = jobs.last().map_or(1, |job| job.attempt);
        let (earlier, current) = jobs.split_at(jobs.partition_point(|job| job.attempt < newest));
        Self { earlier, current }
    }

    /// The Jobs of the previous attempt, from which missing Jobs of the current one are created.
    pub(crate) fn previous(self) -> &'a [Job] {
        let number = self.number().saturating_sub(1);
        &self.earlier[self.earlier.partition_point(|job| job.attempt < number)..]
    }

    /// The Jobs of attempts that are at least `ago` attempts old.
    pub(crate) fn at_least_old(self, ago: u32) -> &'a [Job] {
        let number = self.number();
        &self.earlier[..self.earlier.partition_point(|job| job.attempt + ago <= number)]
    }

    /// The newest attempt; 0 without Jobs.
    pub(crate) fn number(self) -> u32 {
        self.current.first().map_or(0, |job| job.attempt)
    }

    pub(crate) fn is_earlier(self, job: &Job) -> bool {
        job.attempt < self.number()
    }
}

/// The newest pod of each Job, by the Job's uid.
pub(crate) fn newest_pods(pods: &[Pod]) -> HashMap<&str, &Pod> {
    let mut newest: HashMap<&str, &Pod> = HashMap::with_capacity(pods.len());
    for pod in pods {
        let known = newest.entry(&pod.job_uid).or_insert(pod);
        if (pod.created_at, &pod.uid) > (known.created_at, &known.uid) {
            *known = pod;
        }
    }
    newest
}
