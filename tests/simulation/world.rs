//! One simulation from its beginning to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use embedded::{ControlPlane, NodeCapacity};
use fastrand::Rng;
use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::clients::{self, USERS};
use super::direct::{CONFIG_MAPS, Direct, JOBS, PODS};
use super::faults::Weather;
use super::history::Kind;
use super::kubelet::Kubelet;
use super::promises;
use super::server::{self, Fortune};
use super::sim::{Beginning, Sim, happens};
use super::stranger;
use super::timeline::{Attention, Timeline, Violation};

/// When it is in the simulation, in seconds since 1970.
const BEGINNING: i64 = 1_767_225_600;

/// How often servers' answers are looked at.
const LOOK: Duration = Duration::from_secs(3);

/// How long it takes at least, and at most, until everything has settled.
const LEAST_REST: Duration = Duration::from_secs(25);
const MOST_REST: Duration = Duration::from_secs(180);

/// What came of a simulation.
pub struct Report {
    pub violations: Vec<Violation>,
    pub timeline: String,
    /// How long it was, in its own time.
    pub simulated: Duration,
}

/// Runs the simulation with this seed.
pub fn simulate(seed: u64, attention: Attention) -> Report {
    // Servers draw identifiers from the thread's own lots.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(run(seed, attention))
}

async fn run(seed: u64, attention: Attention) -> Report {
    let mut random = Rng::with_seed(seed);
    let clock = clock::Clock::simulated(jiff::Timestamp::from_second(BEGINNING).unwrap());
    let is_crowded = happens(&mut random, 0.3);
    let capacity = NodeCapacity {
        cpus: if is_crowded { random.u32(3..6) } else { random.u32(2..8) }.to_string(),
        ..NodeCapacity::default()
    };
    let plane = ControlPlane::start(clock, seed, capacity).await.unwrap();
    let router = plane.router();
    let storms = [0.0, 0.02, 0.1, 0.3];
    let weather = Weather {
        requests: storms[random.usize(0..4)],
        // Who acts on old news must have some.
        watches: storms[if is_crowded { 3 } else { random.usize(0..4) }],
        latency: happens(&mut random, 0.7),
        is_calm: Arc::new(AtomicBool::new(false)),
    };
    let sim = Sim::new(Beginning {
        seed,
        clock,
        timeline: Timeline::new(attention),
        direct: Direct::new(router.clone()),
        weather,
        active: Duration::from_secs(random.u64(15..45)),
        time_to_live: happens(&mut random, 0.2).then(|| Duration::from_secs(random.u64(5..40))),
        is_crowded,
    });
    let kubelet = Arc::new(Kubelet::default());
    for (kind, path) in [(Kind::Owner, CONFIG_MAPS), (Kind::Job, JOBS), (Kind::Pod, PODS)] {
        tokio::spawn(observe(Arc::clone(&sim), Arc::clone(&kubelet), kind, path));
    }
    begin(&sim, &router, &mut random);
    while sim.is_active() {
        sleep(LOOK).await;
        promises::look(&sim);
    }
    sim.weather.is_calm.store(true, Ordering::Relaxed);
    sim.tell(|| "it is calm".to_owned());
    rest(&sim).await;
    promises::kept_at_the_end(&sim);
    let report = Report {
        violations: sim.timeline.violations(),
        timeline: sim.timeline.text(),
        simulated: sim.timeline.elapsed(),
    };
    plane.stop();
    report
}

/// Lets everybody begin.
fn begin(sim: &Arc<Sim>, router: &Router, random: &mut Rng) {
    let fortune = Fortune {
        dies_writing: [0.0, 0.3, 0.7][random.usize(0..3)],
        dies: [0.0, 0.3][random.usize(0..2)],
        is_parted: [0.0, 0.3][random.usize(0..2)],
    };
    let servers = [2, 2, 3][random.usize(0..3)];
    let meddling = [0.0, 0.0, 0.3, 1.0][random.usize(0..4)];
    sim.tell(|| {
        format!(
            "seed {}: {servers} servers, {fortune:?}, {:?}, meddling {meddling}, crowded {}",
            sim.seed, sim.weather, sim.is_crowded
        )
    });
    for index in 0..servers {
        tokio::spawn(server::keep(Arc::clone(sim), index, router.clone(), fortune));
    }
    for (index, name) in USERS.into_iter().enumerate() {
        tokio::spawn(clients::use_servers(Arc::clone(sim), name, index + 1));
    }
    if meddling > 0.0 {
        tokio::spawn(stranger::meddle(Arc::clone(sim), meddling));
    }
}

/// Waits until everything that takes its time is over.
async fn rest(sim: &Arc<Sim>) {
    let start = Instant::now();
    let settle = async {
        loop {
            sleep(LOOK).await;
            promises::look(sim);
            if start.elapsed() >= LEAST_REST && promises::is_settled(sim) {
                return;
            }
        }
    };
    let _ = timeout(MOST_REST, settle).await;
}

/// Follows one kind of object.
async fn observe(sim: Arc<Sim>, kubelet: Arc<Kubelet>, kind: Kind, path: &'static str) {
    let mut events = sim.direct.watch(path).await;
    while let Some(mut event) = events.next().await {
        let change = sim.history().take(kind, &mut event);
        let Some(change) = change else { continue };
        promises::changed(&sim, &change);
        if kind == Kind::Pod {
            let pod = change.after.gone.is_none().then(|| Arc::clone(&change.after.value));
            kubelet.changed(&sim, &change.after.uid, pod);
        }
    }
}
