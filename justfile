# Recipes for everything that is done twice. `just` alone lists them.

cluster_kubeconfig := env("KUBECONFIG", "/tmp/k8s-cli-test-cluster/admin.kubeconfig")

_:
    @just --list

# Format the code
fmt:
    cargo fmt --all

# Check format, lints and documentation
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

# Check licences, advisories and unused dependencies (needs cargo-deny and cargo-machete)
deny:
    cargo deny check
    cargo machete

# Run all tests that need nothing but this machine
test:
    cargo test --locked
    just e2e embedded

# Run the end-to-end suite: `embedded` on this machine alone, `cluster` on the one that KUBECONFIG names or the test cluster
e2e backend:
    just suite {{ backend }} --skip faults:: --skip crashes:: --skip timing::
    just suite {{ backend }} faults:: crashes:: timing:: --nocapture --test-threads 1

# Run a part of the end-to-end suite; the arguments are those of its test runner
suite backend *arguments:
    cargo build --locked -p server -p cli
    K8S_CLI_E2E_BACKEND={{ backend }} K8S_CLI_TEST_CLUSTER={{ justfile_directory() }}/test-cluster/cluster \
        {{ if backend == "cluster" { "KUBECONFIG=" + cluster_kubeconfig } else { "KUBECONFIG=" } }} \
        cargo test --locked -p e2e --test suite -- {{ arguments }}

# The long runs of the same suite: kills, followers, crashes, a log of 2 GiB
e2e-long backend:
    K8S_CLI_E2E_KILLS=30 K8S_CLI_E2E_SUBMITS=200 K8S_CLI_E2E_CRASHES=100 K8S_CLI_E2E_DEADLINE=3600 \
        just suite {{ backend }} faults:: crashes:: --nocapture --test-threads 1
    K8S_CLI_E2E_LOG_MIB=2048 K8S_CLI_E2E_DEADLINE=3600 just suite {{ backend }} log_that_never_ends --nocapture

# The tests of queues, with Kueue on the test cluster
e2e-kueue:
    test-cluster/cluster kueue
    K8S_CLI_E2E_KUEUE=1 just suite cluster kueue:: --test-threads 1

# Record what a real Kubernetes answers, for the engine to be compared with
record:
    K8S_CLI_E2E_RECORD=1 just suite cluster the_same_requests

# Start the test cluster: a real Kubernetes on this machine
cluster:
    test-cluster/cluster up

# Stop the test cluster
cluster-down:
    test-cluster/cluster down

# Run the server: on the cluster that is configured, else on this machine
serve *arguments:
    cargo run --release --locked -p server -- {{ arguments }}

# Measure ours beside its limit: `embedded` on this machine, `cluster` on the test cluster, `command-line` (needs hyperfine)
bench backend *arguments:
    cargo build --release --locked -p server -p cli -p bench
    {{ if backend == "cluster" { "test-cluster/cluster kwok 4" } else { "true" } }}
    KUBECONFIG={{ cluster_kubeconfig }} target/release/bench {{ backend }} {{ arguments }}
    {{ if backend == "cluster" { "test-cluster/cluster kwok 0" } else { "true" } }}

# Try every documented request against a running server, with schemathesis
fuzz-api:
    KUBECONFIG={{ cluster_kubeconfig }} tests/schemathesis/run

# Accept changed snapshots
snapshots:
    INSTA_UPDATE=always cargo test --locked
