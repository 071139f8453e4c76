//! What users have asked for, and what they were told.

use tokio::time::Instant;

/// A submit of a task.
#[derive(Debug, Clone)]
pub struct Submit {
    pub user: &'static str,
    pub key: Option<String>,
    /// Which definition; the same number is the same text.
    pub definition: usize,
    pub server: String,
    pub outcome: Outcome,
}

/// What a submit came to, for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is no answer yet.
    Open,
    /// It was made.
    Made {
        /// The identifier.
        id: String,
        /// When the user learned it.
        at: Instant,
    },
    /// It was refused.
    Refused {
        /// Why.
        why: String,
        /// Whether the same key was used for something else.
        is_reuse: bool,
        /// When the user learned it.
        at: Instant,
    },
    /// The server died, or the user lost patience.
    Lost,
}

/// A stop of a task.
#[derive(Debug, Clone)]
pub struct Stop {
    pub id: String,
    pub at: Instant,
    /// When it was acknowledged.
    pub done: Option<Instant>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Ledger {
    pub submits: Vec<Submit>,
    pub stops: Vec<Stop>,
    /// Servers that have died, and when.
    pub deaths: Vec<(String, Instant)>,
}

impl Ledger {
    /// The tasks that were acknowledged: identifier, user, when first.
    pub fn acknowledged(&self) -> Vec<(String, &'static str, Instant)> {
        let mut made: Vec<(String, &'static str, Instant)> = Vec::new();
        for submit in &self.submits {
            if let Outcome::Made { id, at } = &submit.outcome {
                match made.iter_mut().find(|(known, _, _)| known == id) {
                    Some((_, _, first)) => *first = (*first).min(*at),
                    None => made.push((id.clone(), submit.user, *at)),
                }
            }
        }
        made
    }

    /// When somebody who may do so first asked for the end of a task.
    pub fn stop_asked(&self, id: &str) -> Option<Instant> {
        self.stops.iter().filter(|stop| stop.id == id).map(|stop| stop.at).min()
    }

    /// When its end was first acknowledged.
    pub fn stopped(&self, id: &str) -> Option<Instant> {
        self.stops
            .iter()
            .filter(|stop| stop.id == id)
            .filter_map(|stop| stop.done)
            .min()
    }

    /// Whether a user was told that a task exists.
    pub fn is_acknowledged(&self, id: &str) -> bool {
        self.submits
            .iter()
            .any(|submit| matches!(&submit.outcome, Outcome::Made { id: made, .. } if made == id))
    }

    /// Whether a server died at or after a moment.
    pub fn died_since(&self, server: &str, moment: Instant) -> bool {
        self.deaths.iter().any(|(name, at)| name == server && *at >= moment)
    }
}
