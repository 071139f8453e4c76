//! Several servers over one simulated Kubernetes, on a clock that jumps: everything that can go wrong does, in thousands of orders,
//! and the promises of the servers are kept. Everything follows from a seed.
//!
//! `SIM_SEED=7` runs one seed and prints what happens, `SIM_SEEDS=10000` runs so many from `SIM_FIRST` on.
//! `RUST_LOG=executor=debug` shows what the servers of one seed say.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue should panic")]

mod clients; // Users.
mod direct; // Requests that nothing disturbs.
mod faults; // The network of a server.
mod history; // What is so.
mod kubelet; // The node.
mod ledger; // What users were told.
mod promises; // What must be so.
mod server; // Servers that die.
mod sim; // What all share.
mod slow_body; // Watches that are held back.
mod stranger; // A fellow tenant.
mod timeline; // What happened.
mod world; // One simulation.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::timeline::{Attention, Violation};
use self::world::{Report, simulate};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many seeds are run when nobody says so.
const SEEDS: u64 = 100;

/// How many seeds are run twice.
const TWICE: u64 = 10;

/// After so many failures no other seed is begun.
const ENOUGH: usize = 1000;

/// How many cases of one kind are shown.
const EXAMPLES: usize = 4;

/// The promise that is broken when anything panics.
const NO_PANIC: &str = "nothing panics";

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

thread_local! {
    /// What has panicked in this thread, in whatever task.
    static PANICS: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn hear_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
        before(panic);
    }));
}

/// Runs a seed; a panic is a broken promise.
fn run(seed: u64, attention: Attention) -> Report {
    PANICS.with_borrow_mut(Vec::clear);
    let report = catch_unwind(AssertUnwindSafe(|| simulate(seed, attention)));
    let mut report = report.unwrap_or_else(|_| Report {
        violations: Vec::new(),
        timeline: String::new(),
        simulated: Duration::ZERO,
    });
    let panics = PANICS.with_borrow_mut(std::mem::take).into_iter();
    report
        .violations
        .extend(panics.map(|how| Violation { promise: NO_PANIC, how }));
    report
}

#[test]
fn every_promise_is_kept_whatever_goes_wrong() {
    hear_panics();
    if let Some(seed) = number("SIM_SEED") {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .without_time()
                .with_ansi(false)
                .init();
        }
        let report = run(seed, Attention::Told);
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
                    if seed >= first + seeds || failures.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    let report = run(seed, Attention::None);
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
        "{done} seeds, {simulated} simulated seconds, in {time:.1?}: {:.1} seeds a second",
        done as f64 / time.as_secs_f64()
    );
    tell(&failures.into_inner().unwrap());
}

#[test]
fn a_seed_has_always_the_same_course() {
    let (first, seeds) = (number("SIM_FIRST").unwrap_or(0), number("SIM_TWICE").unwrap_or(TWICE));
    let differs = |seed: &u64| simulate(*seed, Attention::Kept).timeline != simulate(*seed, Attention::Kept).timeline;
    let differing: Vec<u64> = (first..first + seeds).filter(differs).collect();
    assert!(
        differing.is_empty(),
        "{} of {seeds} seeds have two courses: {differing:?}",
        differing.len()
    );
}

/// A sentence without its names and numbers: what is broken in the same way has the same.
fn shape(how: &str) -> String {
    let is_word = |word: &&str| word.chars().all(|one| one.is_ascii_alphabetic() || ",.'".contains(one));
    how.split(' ').filter(is_word).collect::<Vec<_>>().join(" ")
}

/// Says which promises were broken by which seeds, and shows the whole of one.
fn tell(failures: &BTreeMap<u64, Report>) {
    let mut broken: BTreeMap<(&str, String), Vec<(u64, &str)>> = BTreeMap::new();
    for (seed, report) in failures {
        for Violation { promise, how } in &report.violations {
            broken.entry((promise, shape(how))).or_default().push((*seed, how));
        }
    }
    let mut text = String::new();
    for ((promise, _), cases) in &broken {
        text.push_str(&format!("\n{promise}: broken {} times like this\n", cases.len()));
        for (seed, how) in cases.iter().take(EXAMPLES) {
            text.push_str(&format!("  seed {seed}: {how}\n"));
        }
    }
    if let Some(seed) = failures.keys().next() {
        let again = run(*seed, Attention::Kept);
        text.push_str(&format!(
            "\nseed {seed} (SIM_SEED={seed} shows it again):\n{}",
            again.timeline
        ));
    }
    assert!(failures.is_empty(), "{text}");
}
