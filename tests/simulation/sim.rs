//! What all players of one simulation share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::direct::Direct;
use super::faults::Weather;
use super::history::History;
use super::ledger::Ledger;
use super::server::Servers;
use super::timeline::Timeline;

/// One simulation.
pub struct Sim {
    pub seed: u64,
    pub clock: clock::Clock,
    pub timeline: Timeline,
    pub direct: Direct,
    pub servers: Servers,
    pub weather: Weather,
    /// When users and the network become quiet.
    pub calm_at: Instant,
    /// How long a task is kept after its end.
    pub time_to_live: Option<Duration>,
    /// Whether there is much too little room, and everybody wants several nodes.
    pub is_crowded: bool,
    history: Mutex<History>,
    ledger: Mutex<Ledger>,
}

/// What a simulation begins with.
pub struct Beginning {
    pub seed: u64,
    pub clock: clock::Clock,
    pub timeline: Timeline,
    pub direct: Direct,
    pub weather: Weather,
    pub active: Duration,
    pub time_to_live: Option<Duration>,
    pub is_crowded: bool,
}

impl Sim {
    pub fn new(beginning: Beginning) -> Arc<Self> {
        Arc::new(Self {
            seed: beginning.seed,
            clock: beginning.clock,
            timeline: beginning.timeline,
            direct: beginning.direct,
            servers: Servers::default(),
            weather: beginning.weather,
            calm_at: Instant::now() + beginning.active,
            time_to_live: beginning.time_to_live,
            is_crowded: beginning.is_crowded,
            history: Mutex::default(),
            ledger: Mutex::default(),
        })
    }

    /// Notes something.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        self.timeline.tell(line);
    }

    /// What Kubernetes has and had. Held for moments.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What users were told. Held for moments.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether users still ask for things.
    pub fn is_active(&self) -> bool {
        Instant::now() < self.calm_at
    }

    /// Draws for one player or thing, which no other draws have an influence on.
    pub fn random(&self, of: impl Hash) -> Rng {
        let mut hash = DefaultHasher::new();
        (self.seed, of).hash(&mut hash);
        Rng::with_seed(hash.finish())
    }
}

/// A time between two numbers of milliseconds.
pub fn between(random: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(random.u64(least..=most))
}

/// Waits for such a time.
pub async fn pause(random: &mut Rng, least: u64, most: u64) {
    sleep(between(random, least, most)).await;
}

/// Whether something of this chance happens.
pub fn happens(random: &mut Rng, chance: f64) -> bool {
    random.f64() < chance
}
