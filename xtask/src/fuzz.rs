//! Runs the fuzz targets with cargo-fuzz.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use xshell::{Shell, cmd};

/// The version to install if cargo-fuzz is missing.
const CARGO_FUZZ_VERSION: &str = "cargo-fuzz@0.13.1";

#[derive(clap::Args)]
pub struct Args {
    /// Run only this target
    target: Option<String>,
    /// Time to run each target, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Minimize the corpus instead of fuzzing
    #[arg(long, conflicts_with = "seconds")]
    minimize: bool,
}

/// Runs the targets, as many at a time as there are CPUs.
pub fn run_targets(shell: &Shell, args: &Args) -> Result<(), xshell::Error> {
    // cargo-fuzz needs unstable compiler flags.
    shell.set_var("RUSTC_BOOTSTRAP", "1");
    if cmd!(shell, "cargo fuzz --version")
        .quiet()
        .ignore_stderr()
        .read()
        .is_err()
    {
        cmd!(shell, "cargo install --locked {CARGO_FUZZ_VERSION}").run()?;
    }
    // There is little unsafe code to check, and without a sanitizer, targets build and run much faster.
    cmd!(shell, "cargo fuzz build --sanitizer none").run()?;
    let all = cmd!(shell, "cargo fuzz list").read()?;
    let mut targets: Vec<String> = all.lines().map(str::to_owned).collect();
    if let Some(target) = &args.target {
        targets.retain(|name| name == target);
    }
    targets.reverse();
    let (targets, failed) = (Mutex::new(targets), Mutex::new(None));
    let next_target = || targets.lock().ok()?.pop();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                while let Some(target) = next_target() {
                    let done = Shell::new().and_then(|shell| run_target(&shell, args, &target));
                    if let (Err(error), Ok(mut failed)) = (done, failed.lock()) {
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

fn run_target(shell: &Shell, args: &Args, target: &str) -> Result<(), xshell::Error> {
    if args.minimize {
        return cmd!(shell, "cargo fuzz cmin --sanitizer none {target}").run();
    }
    let seconds = args.seconds.to_string();
    // An input that takes 10 s or 2 GiB is a finding, too.
    let limits = ["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];
    cmd!(
        shell,
        "cargo fuzz run --sanitizer none {target} -- -max_total_time={seconds} {limits...}"
    )
    .run()
}
