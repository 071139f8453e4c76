//! The state that all parts of a simulation share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::direct::Direct;
use super::faults::Network;
use super::history::History;
use super::ledger::Ledger;
use super::server::Servers;
use super::timeline::Timeline;

/// One simulation.
pub(crate) struct Sim {
    pub seed: u64,
    pub clock: clock::Clock,
    pub timeline: Timeline,
    pub direct: Direct,
    pub servers: Servers,
    pub network: Network,
    /// When users and the network become quiet.
    pub quiet_at: Instant,
    /// How long a finished task is kept.
    pub time_to_live: Option<Duration>,
    /// Whether the cluster is too small and most tasks are gangs.
    pub is_crowded: bool,
    history: Mutex<History>,
    ledger: Mutex<Ledger>,
}

/// Parameters of a simulation.
pub(crate) struct SimOptions {
    pub seed: u64,
    pub clock: clock::Clock,
    pub timeline: Timeline,
    pub direct: Direct,
    pub network: Network,
    pub active: Duration,
    pub time_to_live: Option<Duration>,
    pub is_crowded: bool,
}

impl Sim {
    pub(crate) fn new(options: SimOptions) -> Arc<Self> {
        Arc::new(Self {
            seed: options.seed,
            clock: options.clock,
            timeline: options.timeline,
            direct: options.direct,
            servers: Servers::default(),
            network: options.network,
            quiet_at: Instant::now() + options.active,
            time_to_live: options.time_to_live,
            is_crowded: options.is_crowded,
            history: Mutex::default(),
            ledger: Mutex::default(),
        })
    }

    /// Adds an event to the timeline.
    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        self.timeline.log(line);
    }

    /// The objects of Kubernetes. Must not be held across an `await`.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests of users and their outcomes. Must not be held across an `await`.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether users still send requests.
    pub(crate) fn is_active(&self) -> bool {
        Instant::now() < self.quiet_at
    }

    /// A random number generator for one part of the simulation, independent of all others.
    pub(crate) fn random(&self, of: impl Hash) -> Rng {
        let mut hash = DefaultHasher::new();
        (self.seed, of).hash(&mut hash);
        Rng::with_seed(hash.finish())
    }
}

/// A random duration between two numbers of milliseconds.
pub(crate) fn between(random: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.u64(least..=most))
}

/// Waits for a random duration between two numbers of milliseconds.
pub(crate) async fn pause(random: &mut Rng, least: u64, most: u64) {
    sleep(between(random, least, most)).await;
}

/// Returns true with this probability.
pub(crate) fn happens(random: &mut Rng, probability: f64) -> bool {
    random.f64() < probability
}
