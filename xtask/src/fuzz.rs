//! Looks for inputs that break what must hold, with cargo-fuzz.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use xshell::{Shell, cmd};

/// The one that is installed when there is none.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.1";

/// What to look for, and how long.
#[derive(clap::Args)]
pub struct Args {
    /// Run this target only
    target: Option<String>,
    /// How long to run each target, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Keep only what the corpus needs, and run nothing
    #[arg(long, conflicts_with = "seconds")]
    minimize: bool,
}

/// Runs the targets, as many at once as there are processors.
pub fn fuzz(shell: &Shell, args: &Args) -> Result<(), xshell::Error> {
    // cargo-fuzz needs flags of the compiler that are not stable.
    shell.set_var("RUSTC_BOOTSTRAP", "1");
    if cmd!(shell, "cargo fuzz --version")
        .quiet()
        .ignore_stderr()
        .read()
        .is_err()
    {
        cmd!(shell, "cargo install --locked {CARGO_FUZZ}").run()?;
    }
    // There is little unsafe code to watch; without a sanitizer the targets build and run much faster.
    cmd!(shell, "cargo fuzz build --sanitizer none").run()?;
    let all = cmd!(shell, "cargo fuzz list").read()?;
    let mut targets: Vec<String> = all.lines().map(str::to_owned).collect();
    if let Some(target) = &args.target {
        targets.retain(|one| one == target);
    }
    targets.reverse();
    let (targets, failed) = (Mutex::new(targets), Mutex::new(None));
    let take = || targets.lock().ok()?.pop();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(|| {
                while let Some(target) = take() {
                    let done = Shell::new().and_then(|shell| run(&shell, args, &target));
                    if let (Err(error), Ok(mut failed)) = (done, failed.lock()) {
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

fn run(shell: &Shell, args: &Args, target: &str) -> Result<(), xshell::Error> {
    if args.minimize {
        return cmd!(shell, "cargo fuzz cmin --sanitizer none {target}").run();
    }
    let seconds = args.seconds.to_string();
    // What takes 10 s or 2 GiB is a finding, too.
    let limits = ["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];
    cmd!(
        shell,
        "cargo fuzz run --sanitizer none {target} -- -max_total_time={seconds} {limits...}"
    )
    .run()
}
