//! The requests of users and their outcomes.

use tokio::time::Instant;

/// A submit of a task.
#[derive(Debug, Clone)]
pub(crate) struct Submit {
    pub user: &'static str,
    pub key: Option<String>,
    /// Number of the task request.
    pub definition: usize,
    pub server: String,
    pub outcome: Outcome,
}

/// The outcome of a submit, as the user knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is no response yet.
    Pending,
    /// The task was created.
    Created {
        /// ID of the task.
        id: String,
        /// Time of the response.
        at: Instant,
    },
    /// The submit failed.
    Rejected {
        /// The error.
        why: String,
        /// Whether the key was used for another task.
        is_reuse: bool,
        /// Time of the response.
        at: Instant,
    },
    /// The server crashed, or the user stopped waiting.
    Lost,
}

/// A stop or a cancellation of a task.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub id: String,
    pub at: Instant,
    /// Time of the response.
    pub done: Option<Instant>,
}

/// All requests.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub submits: Vec<Submit>,
    pub stops: Vec<Stop>,
    /// Cancellations; only those of unfinished tasks are done.
    pub cancels: Vec<Stop>,
    /// Servers that have crashed, and when.
    pub crashes: Vec<(String, Instant)>,
}

impl Ledger {
    /// Returns the acknowledged tasks: ID, user, and time of the first acknowledgment.
    pub(crate) fn acknowledged(&self) -> Vec<(String, &'static str, Instant)> {
        let mut made: Vec<(String, &'static str, Instant)> = Vec::new();
        for submit in &self.submits {
            if let Outcome::Created { id, at } = &submit.outcome {
                match made.iter_mut().find(|(known, _, _)| known == id) {
                    Some((_, _, first)) => *first = (*first).min(*at),
                    None => made.push((id.clone(), submit.user, *at)),
                }
            }
        }
        made
    }

    /// Returns the time of the first stop request of the owner.
    pub(crate) fn stop_requested_at(&self, id: &str) -> Option<Instant> {
        self.stops.iter().filter(|stop| stop.id == id).map(|stop| stop.at).min()
    }

    /// Returns the time of the first cancellation request of the owner.
    pub(crate) fn cancel_requested_at(&self, id: &str) -> Option<Instant> {
        let cancels = self.cancels.iter().filter(|cancel| cancel.id == id);
        cancels.map(|cancel| cancel.at).min()
    }

    /// Returns the acknowledged cancellations: ID and time.
    pub(crate) fn cancelled(&self) -> impl Iterator<Item = (&str, Instant)> {
        self.cancels
            .iter()
            .filter_map(|cancel| Some((cancel.id.as_str(), cancel.done?)))
    }

    /// Returns the time at which a stop was first acknowledged.
    pub(crate) fn stopped_at(&self, id: &str) -> Option<Instant> {
        self.stops
            .iter()
            .filter(|stop| stop.id == id)
            .filter_map(|stop| stop.done)
            .min()
    }

    /// Whether a task was acknowledged.
    pub(crate) fn is_acknowledged(&self, id: &str) -> bool {
        self.submits
            .iter()
            .any(|submit| matches!(&submit.outcome, Outcome::Created { id: made, .. } if made == id))
    }

    /// Whether a server crashed at or after `moment`.
    pub(crate) fn crashed_since(&self, server: &str, moment: Instant) -> bool {
        self.crashes.iter().any(|(name, at)| name == server && *at >= moment)
    }
}
