//! Several servers on one simulated Kubernetes and a simulated clock, with faults injected in thousands of orders. The
//! invariants of the servers must hold. A seed determines the whole simulation.
//!
//! `SIM_SEED=7` runs one seed and prints its events. `SIM_SEEDS=10000` runs that number of seeds, starting at
//! `SIM_FIRST`. With `SIM_SEED`, `RUST_LOG=executor=debug` prints the logs of the servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue should panic")]

mod clients; // Users.
mod direct; // Requests without faults.
mod faults; // The network of a server.
mod groups; // Pipelines and sweeps.
mod history; // The objects of Kubernetes, past and present.
mod invariants; // What servers guarantee.
mod kubelet; // The cluster node.
mod ledger; // Requests of users and their outcomes.
mod server; // Servers that crash and restart.
mod sim; // The state that all parts share.
mod slow_body; // Watches that are paused or cut.
mod tenant; // Another tenant of the namespace.
mod timeline; // A log of events.
mod world; // One simulation.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::timeline::{Recording, Violation};
use self::world::{Report, simulate};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Default number of seeds.
const SEEDS: u64 = 100;

/// Number of seeds that are run twice.
const TWICE: u64 = 10;

/// No more seeds are started after this number of failures.
const MAX_FAILURES: usize = 1000;

/// Number of examples that are printed for each kind of violation.
const EXAMPLES: usize = 4;

/// The invariant that a panic violates.
const NO_PANIC: &str = "nothing panics";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

thread_local! {
    /// Panics of all tasks of this thread.
    static PANICS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn record_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
        before(panic);
    }));
}

/// Runs a seed; a panic is a violation.
fn run(seed: u64, recording: Recording) -> Report {
    PANICS.with_borrow_mut(Vec::clear);
    let report = catch_unwind(AssertUnwindSafe(|| simulate(seed, recording)));
    let mut report = report.unwrap_or_else(|_| Report {
        violations: Vec::new(),
        timeline: String::new(),
        simulated: Duration::ZERO,
    });
    let panics = PANICS.with_borrow_mut(std::mem::take).into_iter();
    report.violations.extend(panics.map(|how| Violation {
        invariant: NO_PANIC,
        how,
    }));
    report
}

#[test]
fn every_invariant_holds_under_faults() {
    record_panics();
    if let Some(seed) = number("SIM_SEED") {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .without_time()
                .with_ansi(false)
                .init();
        }
        let report = run(seed, Recording::Printed);
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
        return;
    }
    let (first, seeds) = (number("SIM_FIRST").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS));
    let next = AtomicU64::new(first);
    let failures: Mutex<BTreeMap<u64, Report>> = Mutex::default();
    let simulated = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || failures.lock().unwrap().len() >= MAX_FAILURES {
                        return;
                    }
                    let report = run(seed, Recording::Off);
                    simulated.fetch_add(report.simulated.as_secs(), Ordering::Relaxed);
                    if !report.violations.is_empty() {
                        failures.lock().unwrap().insert(seed, report);
                    }
                }
            });
        }
    });
    let done = next.into_inner().min(first + seeds) - first;
    let simulated = simulated.into_inner();
    let time = start.elapsed();
    println!(
        "{done} seeds, {simulated} simulated seconds, in {time:.1?}: {:.1} seeds per second",
        done as f64 / time.as_secs_f64()
    );
    report_failures(&failures.into_inner().unwrap());
}

#[test]
fn a_seed_always_has_the_same_timeline() {
    let (first, seeds) = (number("SIM_FIRST").unwrap_or(0), number("SIM_TWICE").unwrap_or(TWICE));
    let differs = |seed: &u64| simulate(*seed, Recording::Kept).timeline != simulate(*seed, Recording::Kept).timeline;
    let differing: Vec<u64> = (first..first + seeds).filter(differs).collect();
    assert!(
        differing.is_empty(),
        "{} of {seeds} seeds have two different timelines: {differing:?}",
        differing.len()
    );
}

/// A description without names and numbers, to group violations of the same kind.
fn pattern(how: &str) -> String {
    let is_word = |word: &&str| word.chars().all(|one| one.is_ascii_alphabetic() || ",.'".contains(one));
    how.split(' ').filter(is_word).collect::<Vec<_>>().join(" ")
}

/// Fails with the violations and their seeds, and with the timeline of the first one.
fn report_failures(failures: &BTreeMap<u64, Report>) {
    let mut broken: BTreeMap<(&str, String), Vec<(u64, &str)>> = BTreeMap::new();
    for (seed, report) in failures {
        for Violation { invariant, how } in &report.violations {
            broken.entry((invariant, pattern(how))).or_default().push((*seed, how));
        }
    }
    let mut text = String::new();
    for ((invariant, _), cases) in &broken {
        text.push_str(&format!("\n{invariant}: violated {} times in this way\n", cases.len()));
        for (seed, how) in cases.iter().take(EXAMPLES) {
            text.push_str(&format!("  seed {seed}: {how}\n"));
        }
    }
    if let Some(seed) = failures.keys().next() {
        let again = run(*seed, Recording::Kept);
        text.push_str(&format!(
            "\nseed {seed} (SIM_SEED={seed} replays it):\n{}",
            again.timeline
        ));
    }
    assert!(failures.is_empty(), "{text}");
}
