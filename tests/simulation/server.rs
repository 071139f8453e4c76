//! Servers as processes that start, crash, and restart.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use executor::{Defaults, Executor, Settings};
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use super::faults::Link;
use super::sim::{Sim, between, happens, pause};

/// A running server.
#[derive(Clone)]
pub(crate) struct Server {
    pub name: String,
    pub executor: Arc<Executor>,
    pub link: Link,
}

/// All running servers.
#[derive(Default)]
pub(crate) struct Servers(Mutex<Vec<Server>>);

impl Servers {
    /// Returns all of them in a fixed order.
    pub(crate) fn running(&self) -> Vec<Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a random one.
    pub(crate) fn any(&self, random: &mut Rng) -> Option<Server> {
        let all = self.running();
        let index = random.usize(..);
        (!all.is_empty()).then(|| all[index % all.len()].clone())
    }

    fn put(&self, server: Server) {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.push(server);
        servers.sort_by(|left, right| left.name.cmp(&right.name));
    }

    fn remove(&self, name: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|server| server.name != name);
    }
}

/// Probabilities of the faults of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerFaults {
    /// A process crashes during a write.
    pub crash_during_write: f64,
    /// A process crashes at another time.
    pub crash: f64,
    /// It is partitioned from Kubernetes for a while.
    pub partition: f64,
}

/// Runs one server, and restarts it after each crash, until the simulation ends.
pub(crate) async fn keep(sim: Arc<Sim>, index: usize, router: axum::Router, faults: ServerFaults) {
    let mut random = sim.random(("server", index));
    if index > 0 {
        pause(&mut random, 0, 3000).await;
    }
    for run in 0.. {
        let name = format!("s{index}.{run}");
        let crash_during_write = sim.is_active() && happens(&mut random, faults.crash_during_write);
        let last_write = random.u32(1..40);
        let link = Link::new(
            router.clone(),
            random.u64(..),
            sim.network.clone(),
            crash_during_write.then_some(last_write),
        );
        let dead = link.dead();
        tokio::select! {
            biased;
            () = dead.cancelled() => {}
            () = run_process(&sim, &name, &link, &mut random, faults) => {}
        }
        link.kill();
        sim.servers.remove(&name);
        sim.ledger().crashes.push((name.clone(), Instant::now()));
        sim.log(|| format!("{name} has crashed"));
        pause(&mut random, 200, 12_000).await;
    }
}

/// Runs one process until it fails or crashes.
async fn run_process(sim: &Arc<Sim>, name: &str, link: &Link, random: &mut Rng, faults: ServerFaults) {
    let client = executor::client(link.clone(), "default");
    let settings = Settings {
        namespace: Some("default".to_owned()),
        defaults: Defaults {
            ttl_after_finished: sim.time_to_live,
            ..Defaults::default()
        },
        clock: sim.clock,
        ..Settings::default()
    };
    let executor = match Executor::start(client, settings).await {
        Ok(executor) => Arc::new(executor),
        Err(error) => {
            sim.log(|| format!("{name} does not start: {error}"));
            return;
        }
    };
    sim.log(|| format!("{name} runs"));
    let server = Server {
        name: name.to_owned(),
        executor,
        link: link.clone(),
    };
    // The tasks of a crashed process must not continue.
    let _end = ShutDownOnDrop(Arc::clone(&server.executor));
    sim.servers.put(server);
    let left = sim.quiet_at.saturating_duration_since(Instant::now());
    let crash = (happens(random, faults.crash) && sim.is_active()).then(|| left.mul_f64(random.f64()));
    if happens(random, faults.partition) {
        let when = left.mul_f64(random.f64());
        let time = between(random, 1000, 30_000).min(left - when);
        let (link, sim, name) = (link.clone(), Arc::clone(sim), name.to_owned());
        tokio::spawn(async move {
            sleep(when).await;
            sim.log(|| format!("{name} is partitioned for {:.1} s", time.as_secs_f64()));
            link.partition(time);
        });
    }
    sleep(crash.unwrap_or(Duration::from_secs(1_000_000))).await;
}

/// Ends the background tasks of an executor without waiting for them.
struct ShutDownOnDrop(Arc<Executor>);

impl Drop for ShutDownOnDrop {
    fn drop(&mut self) {
        let executor = Arc::clone(&self.0);
        // Its client is dead, so it would retry forever.
        tokio::spawn(async move { timeout(Duration::ZERO, executor.shut_down()).await });
    }
}
