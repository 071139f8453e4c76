//! Development tasks: format, lint, test, end-to-end tests, test cluster, benchmarks. CI runs the same.

mod fuzz;
mod snapshots;
mod tools;

use std::path::Path;

use clap::{Parser, Subcommand, ValueEnum};
use xshell::{Cmd, Shell, cmd};

use self::snapshots::UsedSnapshots;

/// Development tasks.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    recipe: Recipe,
}

#[derive(Subcommand)]
enum Recipe {
    /// Format the code
    Fmt,
    /// Check formatting, lints, and documentation
    Lint,
    /// Check licenses, sources, advisories, and unused dependencies (installs cargo-deny and cargo-machete if missing)
    Deny,
    /// Run all tests that need only this machine
    Test,
    /// Run the end-to-end suite
    E2e { backend: Backend },
    /// Run part of the end-to-end suite
    Suite {
        backend: Backend,
        /// Arguments for the test runner, e.g., part of a test name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the long tests of the end-to-end suite: kills, followers, crashes, a log of 2 GiB
    E2eLong { backend: Backend },
    /// Run the queueing tests with Kueue on the test cluster
    E2eKueue,
    /// Run several servers against a simulated, faulty Kubernetes
    Simulate {
        /// Number of seeds to run
        #[arg(long, default_value_t = 10_000)]
        seeds: u64,
        /// Run only this seed and print what happens
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Record responses of a real Kubernetes, with which the tests compare the embedded engine
    Record,
    /// Start the test cluster: a real Kubernetes on this machine
    Cluster,
    /// Stop the test cluster
    ClusterDown,
    /// Run the server on the configured cluster or, if there is none, on this machine
    Serve {
        /// Arguments for the server
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a benchmark and compare it with its theoretical limit: `embedded`, `followers`, `archive`, or `files` on this machine,
    /// `cluster` on the test cluster, or `command-line` (needs hyperfine)
    Bench {
        #[arg(value_name = "WHAT")]
        benchmark: Bench,
        /// Arguments for the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the fuzz targets (installs cargo-fuzz if it is missing)
    Fuzz(fuzz::Args),
    /// Test every documented request against a running server with schemathesis
    FuzzApi,
    /// Test the API pages in Chromium, directly and behind proxies (installs Chromium if it is missing)
    Browser,
    /// Follow logs through proxies while the server restarts, the proxies reload, and clients leave
    Proxies,
    /// Test generated API clients against a running server (needs Python, Node.js, Go, and Java)
    Clients,
    /// Review the snapshots that the last test run changed (installs cargo-insta if it is missing)
    Snapshots,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// Only this machine
    Embedded,
    /// The cluster in `KUBECONFIG` or, if unset, the test cluster
    Cluster,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    Embedded,
    Cluster,
    Followers,
    Archive,
    Files,
    CommandLine,
}

/// Tests that run one at a time, because they measure time, kill servers, or change cluster nodes.
const SERIAL_TESTS: [&str; 4] = ["faults::", "crashes::", "timing::", "gpu_nodes::"];

/// The kubeconfig of the test cluster.
const TEST_CLUSTER: &str = "/tmp/k8s-cli-test-cluster/admin.kubeconfig";

fn main() -> Result<(), xshell::Error> {
    let recipe = Arguments::parse().recipe;
    let shell = Shell::new()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    shell.change_dir(root);
    run(&shell, recipe)
}

fn run(shell: &Shell, recipe: Recipe) -> Result<(), xshell::Error> {
    match recipe {
        Recipe::Fmt => cmd!(shell, "cargo fmt --all").run(),
        Recipe::Lint => lint(shell),
        Recipe::Deny => deny(shell),
        Recipe::Test => test(shell),
        Recipe::E2e { backend } => e2e(shell, backend),
        Recipe::Suite { backend, arguments } => suite(shell, backend, &arguments)?.run(),
        Recipe::E2eLong { backend } => e2e_long(shell, backend),
        Recipe::E2eKueue => {
            cmd!(shell, "test-cluster/cluster kueue").run()?;
            let arguments = ["kueue::", "--test-threads", "1"];
            suite(shell, Backend::Cluster, &arguments)?
                .env("K8S_CLI_E2E_KUEUE", "1")
                .run()
        }
        Recipe::Simulate { seeds, seed } => {
            let simulate = cmd!(
                shell,
                "cargo test --profile simulation --locked -p e2e --test simulation -- --nocapture every"
            )
            .env("SIM_SEEDS", seeds.to_string());
            match seed {
                Some(seed) => simulate.env("SIM_SEED", seed.to_string()).run(),
                None => simulate.run(),
            }
        }
        Recipe::Record => suite(shell, Backend::Cluster, &["the_same_requests"])?
            .env("K8S_CLI_E2E_RECORD", "1")
            .run(),
        Recipe::Cluster => cmd!(shell, "test-cluster/cluster up").run(),
        Recipe::ClusterDown => cmd!(shell, "test-cluster/cluster down").run(),
        Recipe::Serve { arguments } => cmd!(shell, "cargo run --release --locked -p server -- {arguments...}").run(),
        Recipe::Bench { benchmark, arguments } => bench(shell, benchmark, &arguments),
        Recipe::Fuzz(args) => fuzz::run_targets(shell, &args),
        Recipe::FuzzApi => cmd!(shell, "tests/schemathesis/run")
            .env("KUBECONFIG", kubeconfig())
            .run(),
        Recipe::Browser => run_with_binaries(shell, "tests/browser/run"),
        Recipe::Proxies => run_with_binaries(shell, "tests/proxies/run"),
        Recipe::Clients => run_with_binaries(shell, "tests/clients/run"),
        Recipe::Snapshots => snapshots::review(shell),
    }
}

fn lint(shell: &Shell) -> Result<(), xshell::Error> {
    cmd!(shell, "cargo fmt --all --check").run()?;
    cmd!(shell, "cargo clippy --workspace --all-targets --locked -- -D warnings").run()?;
    cmd!(
        shell,
        "cargo doc --workspace --no-deps --document-private-items --locked --quiet"
    )
    .env("RUSTDOCFLAGS", "-D warnings")
    .run()
}

fn deny(shell: &Shell) -> Result<(), xshell::Error> {
    tools::DENY.install(shell)?;
    tools::MACHETE.install(shell)?;
    // As `cargo machete`, it takes its own name for a directory below `cargo run`.
    cmd!(shell, "cargo-machete").run()?;
    cmd!(shell, "cargo deny check bans licenses sources").run()?;
    // The database of advisories is a git repository, which not every machine can reach.
    if cmd!(shell, "cargo deny fetch db")
        .quiet()
        .ignore_stderr()
        .run()
        .is_err()
    {
        eprintln!("warning: cannot fetch the database of advisories; skipping the check for known vulnerabilities");
        return Ok(());
    }
    cmd!(shell, "cargo deny check advisories").run()
}

fn test(shell: &Shell) -> Result<(), xshell::Error> {
    skip_other_accounts(shell)?;
    let used_snapshots = UsedSnapshots::record(shell)?;
    cmd!(
        shell,
        "cargo test --locked --workspace --lib --bins --test control_plane --test simulation"
    )
    .run()?;
    e2e(shell, Backend::Embedded)?;
    let unused = used_snapshots.unused(shell)?;
    if !unused.is_empty() {
        eprintln!("error: no test uses these snapshots; remove them: {unused:#?}");
        std::process::exit(1);
    }
    Ok(())
}

fn e2e(shell: &Shell, backend: Backend) -> Result<(), xshell::Error> {
    let skip_serial = SERIAL_TESTS.map(|part| ["--skip", part]).concat();
    suite(shell, backend, &skip_serial)?.run()?;
    let only_serial = [SERIAL_TESTS.as_slice(), &["--nocapture", "--test-threads", "1"]].concat();
    suite(shell, backend, &only_serial)?.run()
}

fn e2e_long(shell: &Shell, backend: Backend) -> Result<(), xshell::Error> {
    let arguments = ["faults::", "crashes::", "--nocapture", "--test-threads", "1"];
    suite(shell, backend, &arguments)?
        .env("K8S_CLI_E2E_KILLS", "30")
        .env("K8S_CLI_E2E_SUBMITS", "200")
        .env("K8S_CLI_E2E_CRASHES", "100")
        .env("K8S_CLI_E2E_ARCHIVE_KILLS", "50")
        .env("K8S_CLI_E2E_DEADLINE", "3600")
        .run()?;
    suite(shell, backend, &["each_task_of_a_group_runs_once", "--nocapture"])?
        .env("K8S_CLI_E2E_GROUP_KILLS", "200")
        .env("K8S_CLI_E2E_DEADLINE", "3600")
        .run()?;
    suite(shell, backend, &["log_that_never_ends", "--nocapture"])?
        .env("K8S_CLI_E2E_LOG_MIB", "2048")
        .env("K8S_CLI_E2E_DEADLINE", "3600")
        .run()?;
    suite(
        shell,
        backend,
        &["archive_bucket::", "archive_rotation::", "--nocapture"],
    )?
    .env("K8S_CLI_E2E_CUT_SECONDS", "30")
    .env("K8S_CLI_E2E_ARCHIVE_LOG_MIB", "100")
    .env("K8S_CLI_E2E_DEADLINE", "3600")
    .run()
}

/// Skips the tests that switch to another account unless this runs as root. Without the variable, they fail, so that a
/// missing permission does not go unnoticed.
fn skip_other_accounts(shell: &Shell) -> Result<(), xshell::Error> {
    if cmd!(shell, "id -u").quiet().read()? != "0" {
        eprintln!("note: skipping tests that switch to another account; run as root to include them");
        shell.set_var("K8S_CLI_SKIP_OTHER_ACCOUNT", "1");
    }
    Ok(())
}

/// Builds the server, the CLI, and the end-to-end suite, which starts them.
///
/// Selects the whole workspace, like [`test`]: cargo enables the features that the selected packages need, and compiles
/// most crates again for another selection.
fn build_binaries(shell: &Shell) -> Result<(), xshell::Error> {
    cmd!(
        shell,
        "cargo build --locked --workspace --bin k8s-cli-api --bin k8s-cli --test suite"
    )
    .run()
}

/// Runs a test script with the binaries of this workspace.
fn run_with_binaries(shell: &Shell, script: &str) -> Result<(), xshell::Error> {
    build_binaries(shell)?;
    let target = shell.current_dir().join("target/debug");
    cmd!(shell, "{script}")
        .env("K8S_CLI_API_BIN", target.join("k8s-cli-api"))
        .env("K8S_CLI_BIN", target.join("k8s-cli"))
        .run()
}

/// The command that runs the end-to-end suite.
fn suite<'a>(shell: &'a Shell, backend: Backend, arguments: &[impl AsRef<str>]) -> Result<Cmd<'a>, xshell::Error> {
    skip_other_accounts(shell)?;
    build_binaries(shell)?;
    if backend == Backend::Cluster && kubeconfig() == TEST_CLUSTER {
        cmd!(shell, "test-cluster/cluster helper").run()?;
    }
    let arguments = arguments.iter().map(AsRef::as_ref);
    let (name, kubeconfig) = match backend {
        Backend::Embedded => ("embedded", String::new()),
        Backend::Cluster => ("cluster", kubeconfig()),
    };
    Ok(
        cmd!(shell, "cargo test --locked --workspace --test suite -- {arguments...}")
            .env("K8S_CLI_E2E_BACKEND", name)
            .env("K8S_CLI_TEST_CLUSTER", shell.current_dir().join("test-cluster/cluster"))
            .env("KUBECONFIG", kubeconfig),
    )
}

fn bench(shell: &Shell, benchmark: Bench, arguments: &[String]) -> Result<(), xshell::Error> {
    cmd!(shell, "cargo build --release --locked -p server -p cli -p bench").run()?;
    let name = match benchmark {
        Bench::Embedded => "embedded",
        Bench::Cluster => "cluster",
        Bench::Followers => "followers",
        Bench::Archive => "archive",
        Bench::Files => "files",
        Bench::CommandLine => "command-line",
    };
    let bench = cmd!(shell, "target/release/bench {name} {arguments...}").env("KUBECONFIG", kubeconfig());
    if benchmark != Bench::Cluster {
        return bench.run();
    }
    cmd!(shell, "test-cluster/cluster kwok 4").run()?;
    let result = bench.run();
    cmd!(shell, "test-cluster/cluster kwok 0").run()?;
    result
}

/// `KUBECONFIG` or, if unset, that of the test cluster.
fn kubeconfig() -> String {
    let configured = std::env::var("KUBECONFIG").ok().filter(|path| !path.is_empty());
    configured.unwrap_or_else(|| TEST_CLUSTER.to_owned())
}
