//! Servers, as processes that start, die and start again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use executor::{Defaults, Executor, Settings};
use fastrand::Rng;
use tokio::time::{Instant, sleep, timeout};

use super::faults::Link;
use super::sim::{Sim, between, happens, pause};

/// A server that runs.
#[derive(Clone)]
pub struct Server {
    pub name: String,
    pub executor: Arc<Executor>,
    pub link: Link,
}

/// Those that run now.
#[derive(Default)]
pub struct Servers(Mutex<Vec<Server>>);

impl Servers {
    /// All of them, in a fixed order.
    pub fn running(&self) -> Vec<Server> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One of them.
    pub fn any(&self, random: &mut Rng) -> Option<Server> {
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

/// How a server fares.
#[derive(Debug, Clone, Copy)]
pub struct Fortune {
    /// The chance that a process of it dies in the midst of a write.
    pub dies_writing: f64,
    /// The chance that it dies at some other time.
    pub dies: f64,
    /// The chance that it is cut off for a while.
    pub is_parted: f64,
}

/// Keeps one server running, through all its deaths, until the simulation ends.
pub async fn keep(sim: Arc<Sim>, index: usize, router: axum::Router, fortune: Fortune) {
    let mut random = sim.random(("server", index));
    if index > 0 {
        pause(&mut random, 0, 3000).await;
    }
    for life in 0.. {
        let name = format!("s{index}.{life}");
        let dies_writing = sim.is_active() && happens(&mut random, fortune.dies_writing);
        let last_write = random.u32(1..40);
        let link = Link::new(
            router.clone(),
            random.u64(..),
            sim.weather.clone(),
            dies_writing.then_some(last_write),
        );
        let dead = link.dead();
        tokio::select! {
            biased;
            () = dead.cancelled() => {}
            () = live(&sim, &name, &link, &mut random, fortune) => {}
        }
        link.kill();
        sim.servers.remove(&name);
        sim.ledger().deaths.push((name.clone(), Instant::now()));
        sim.tell(|| format!("{name} is dead"));
        pause(&mut random, 200, 12_000).await;
    }
}

/// One process, until it ends by itself or is killed.
async fn live(sim: &Arc<Sim>, name: &str, link: &Link, random: &mut Rng, fortune: Fortune) {
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
            sim.tell(|| format!("{name} does not start: {error}"));
            return;
        }
    };
    sim.tell(|| format!("{name} runs"));
    let server = Server {
        name: name.to_owned(),
        executor,
        link: link.clone(),
    };
    // What a dead process had in its memory is no longer worked on.
    let _end = Ending(Arc::clone(&server.executor));
    sim.servers.put(server);
    let left = sim.calm_at.saturating_duration_since(Instant::now());
    let death = (happens(random, fortune.dies) && sim.is_active()).then(|| left.mul_f64(random.f64()));
    if happens(random, fortune.is_parted) {
        let when = left.mul_f64(random.f64());
        let time = between(random, 1000, 30_000).min(left - when);
        let (link, sim, name) = (link.clone(), Arc::clone(sim), name.to_owned());
        tokio::spawn(async move {
            sleep(when).await;
            sim.tell(|| format!("{name} is cut off for {:.1} s", time.as_secs_f64()));
            link.part(time);
        });
    }
    sleep(death.unwrap_or(Duration::from_secs(1_000_000))).await;
}

/// Ends what an executor does in the background, without waiting for it.
struct Ending(Arc<Executor>);

impl Drop for Ending {
    fn drop(&mut self) {
        let executor = Arc::clone(&self.0);
        // Its client is dead: it can do nothing any more, and would try to for ever.
        tokio::spawn(async move { timeout(Duration::ZERO, executor.shut_down()).await });
    }
}
