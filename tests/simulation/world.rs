//! One simulation from start to end.

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
use super::faults::Network;
use super::history::Kind;
use super::invariants;
use super::kubelet::Kubelet;
use super::server::{self, ServerFaults};
use super::sim::{Sim, SimOptions, happens};
use super::tenant;
use super::timeline::{Recording, Timeline, Violation};

/// Start time of a simulation, in seconds since 1970.
const START_TIME: i64 = 1_767_225_600;

/// Time between checks of the responses of servers.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// Minimum and maximum time that servers have to settle after the last fault.
const MIN_SETTLE_TIME: Duration = Duration::from_secs(25);
const MAX_SETTLE_TIME: Duration = Duration::from_secs(180);

/// The result of a simulation.
pub(crate) struct Report {
    pub violations: Vec<Violation>,
    pub timeline: String,
    /// Simulated time.
    pub simulated: Duration,
}

/// Runs the simulation with this seed.
pub(crate) fn simulate(seed: u64, recording: Recording) -> Report {
    // Servers draw IDs from the generator of the thread.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(run(seed, recording))
}

async fn run(seed: u64, recording: Recording) -> Report {
    let mut random = Rng::with_seed(seed);
    let clock = clock::Clock::simulated(jiff::Timestamp::from_second(START_TIME).unwrap());
    let is_crowded = happens(&mut random, 0.3);
    let capacity = NodeCapacity {
        cpus: if is_crowded { random.u32(3..6) } else { random.u32(2..8) }.to_string(),
        ..NodeCapacity::default()
    };
    let plane = ControlPlane::start(clock, seed, capacity).await.unwrap();
    let router = plane.router();
    let rates = [0.0, 0.02, 0.1, 0.3];
    let network = Network {
        requests: rates[random.usize(0..4)],
        // Preemption based on a stale cache needs slow watches.
        watches: rates[if is_crowded { 3 } else { random.usize(0..4) }],
        latency: happens(&mut random, 0.7),
        is_quiet: Arc::new(AtomicBool::new(false)),
    };
    let sim = Sim::new(SimOptions {
        seed,
        clock,
        timeline: Timeline::new(recording),
        direct: Direct::new(router.clone()),
        network,
        active: Duration::from_secs(random.u64(15..45)),
        time_to_live: happens(&mut random, 0.2).then(|| Duration::from_secs(random.u64(5..40))),
        is_crowded,
    });
    let kubelet = Arc::new(Kubelet::default());
    for (kind, path) in [(Kind::Owner, CONFIG_MAPS), (Kind::Job, JOBS), (Kind::Pod, PODS)] {
        tokio::spawn(observe(Arc::clone(&sim), Arc::clone(&kubelet), kind, path));
    }
    start(&sim, &router, &mut random);
    while sim.is_active() {
        sleep(CHECK_INTERVAL).await;
        invariants::check_responses(&sim);
    }
    sim.network.is_quiet.store(true, Ordering::Relaxed);
    sim.log(|| "users and the network are quiet".to_owned());
    settle(&sim).await;
    invariants::check_at_end(&sim);
    let report = Report {
        violations: sim.timeline.violations(),
        timeline: sim.timeline.text(),
        simulated: sim.timeline.elapsed(),
    };
    plane.stop();
    report
}

/// Starts servers, users, and the other tenant.
fn start(sim: &Arc<Sim>, router: &Router, random: &mut Rng) {
    let faults = ServerFaults {
        crash_during_write: [0.0, 0.3, 0.7][random.usize(0..3)],
        crash: [0.0, 0.3][random.usize(0..2)],
        partition: [0.0, 0.3][random.usize(0..2)],
    };
    let servers = [2, 2, 3][random.usize(0..3)];
    let interference = [0.0, 0.0, 0.3, 1.0][random.usize(0..4)];
    sim.log(|| {
        format!(
            "seed {}: {servers} servers, {faults:?}, {:?}, interference {interference}, crowded {}",
            sim.seed, sim.network, sim.is_crowded
        )
    });
    for index in 0..servers {
        tokio::spawn(server::keep(Arc::clone(sim), index, router.clone(), faults));
    }
    for (index, name) in USERS.into_iter().enumerate() {
        tokio::spawn(clients::use_servers(Arc::clone(sim), name, index + 1));
    }
    if interference > 0.0 {
        tokio::spawn(tenant::interfere(Arc::clone(sim), interference));
    }
}

/// Waits until servers have settled.
async fn settle(sim: &Arc<Sim>) {
    let start = Instant::now();
    let settling = async {
        loop {
            sleep(CHECK_INTERVAL).await;
            invariants::check_responses(sim);
            if start.elapsed() >= MIN_SETTLE_TIME && invariants::is_settled(sim) {
                return;
            }
        }
    };
    let _ = timeout(MAX_SETTLE_TIME, settling).await;
}

/// Watches one kind of object.
async fn observe(sim: Arc<Sim>, kubelet: Arc<Kubelet>, kind: Kind, path: &'static str) {
    let mut events = sim.direct.watch(path).await;
    while let Some(mut event) = events.next().await {
        let change = sim.history().apply(kind, &mut event);
        let Some(change) = change else { continue };
        invariants::changed(&sim, &change);
        if kind == Kind::Pod {
            let pod = change
                .after
                .deleted_at
                .is_none()
                .then(|| Arc::clone(&change.after.value));
            kubelet.changed(&sim, &change.after.uid, pod);
        }
    }
}
