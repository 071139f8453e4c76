//! Runs the fuzz targets with cargo-fuzz.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::thread;

use xshell::{Shell, cmd};

use crate::tools;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only this target
    target: Option<String>,
    /// Time to run each target, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Build without optimization: much faster to build, slower to run
    #[arg(long)]
    dev: bool,
    /// Minimize the corpus instead of fuzzing
    #[arg(long, conflicts_with = "seconds")]
    minimize: bool,
}

/// Runs the targets, as many at a time as there are CPUs.
pub(crate) fn run_targets(shell: &Shell, args: &Args) -> Result<(), xshell::Error> {
    // cargo-fuzz needs unstable compiler flags.
    shell.set_var("RUSTC_BOOTSTRAP", "1");
    tools::FUZZ.install(shell)?;
    let build = options(args);
    let target = &args.target;
    // Fails for an unknown target.
    cmd!(shell, "cargo fuzz build {build...} {target...}").run()?;
    let targets: Vec<String> = match target {
        Some(target) => vec![target.clone()],
        None => {
            let all = cmd!(shell, "cargo fuzz list").read()?;
            all.lines().rev().map(str::to_owned).collect()
        }
    };
    let (targets, failed) = (Mutex::new(targets), Mutex::new(None));
    let next_target = || targets.lock().ok()?.pop();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            // With the directory and the variables of this shell: cargo would build everything again without them.
            let (shell, next_target, failed) = (shell.clone(), &next_target, &failed);
            scope.spawn(move || {
                while let Some(target) = next_target() {
                    let done = run_target(&shell, args, &target);
                    if let (Err(error), Ok(mut failed)) = (done, failed.lock()) {
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

/// How to build. There is little unsafe code to check, and without a sanitizer, targets build and run much faster.
fn options(args: &Args) -> Vec<&'static str> {
    let profile = if args.dev { "--dev" } else { "--release" };
    vec!["--sanitizer", "none", profile]
}

/// Keeps the smallest set of inputs that covers as much code as all of them. `cargo fuzz cmin` would also keep an input
/// for each number of times that a line runs, which is several times as many files.
fn minimize(shell: &Shell, build: &[&str], target: &str) -> Result<(), xshell::Error> {
    let corpus = format!("fuzz/corpus/{target}");
    let kept = format!("{corpus}.kept");
    shell.remove_path(&kept)?;
    shell.create_dir(&kept)?;
    let merge = ["-set_cover_merge=1", "-use_counters=0"];
    cmd!(
        shell,
        "cargo fuzz run {build...} {target} {kept} {corpus} -- {merge...}"
    )
    .run()?;
    shell.remove_path(&corpus)?;
    cmd!(shell, "mv {kept} {corpus}").run()
}

fn run_target(shell: &Shell, args: &Args, target: &str) -> Result<(), xshell::Error> {
    let build = options(args);
    if args.minimize {
        return minimize(shell, &build, target);
    }
    let seconds = args.seconds.to_string();
    // An input that takes 10 s or 2 GiB is a finding, too.
    let limits = ["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];
    cmd!(
        shell,
        "cargo fuzz run {build...} {target} -- -max_total_time={seconds} {limits...}"
    )
    .run()
}
