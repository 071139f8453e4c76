# Recipes for everything that is done twice. `just` alone lists them.

export KUBECONFIG := env("KUBECONFIG", "/tmp/k8s-cli-test-cluster/admin.kubeconfig")

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

# Run the fast tests
test:
    cargo test --locked

# Run the end-to-end suite on the cluster that KUBECONFIG names; the test cluster by default
e2e: (suite "--skip" "faults::") (suite "faults::" "--nocapture" "--test-threads" "1")

# Run a part of the end-to-end suite; the arguments are those of its test runner
suite *arguments:
    cargo build --locked -p server
    K8S_CLI_TEST_CLUSTER={{ justfile_directory() }}/test-cluster/cluster cargo test --locked -p e2e --test suite -- {{ arguments }}

# The long runs of the same suite: kills, followers
e2e-long:
    K8S_CLI_E2E_KILLS=30 K8S_CLI_E2E_SUBMITS=200 just suite faults:: --nocapture --test-threads 1

# Start the test cluster: a real Kubernetes on this machine
cluster:
    test-cluster/cluster up

# Stop the test cluster
cluster-down:
    test-cluster/cluster down

# Run the server on the cluster that KUBECONFIG names
serve *arguments:
    cargo run --release --locked -p server -- {{ arguments }}

# Measure ours beside kube-apiserver alone (needs the test cluster)
bench *arguments:
    cargo build --release --locked -p server -p bench
    test-cluster/cluster kwok 4
    target/release/bench {{ arguments }}
    test-cluster/cluster kwok 0

# Try every documented request against a running server, with schemathesis
fuzz-api:
    tests/schemathesis/run

# Accept changed snapshots
snapshots:
    INSTA_UPDATE=always cargo test --locked
