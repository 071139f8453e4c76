//! A server, a user, and the cluster behind the server, for one test.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::{Api, Backend, Cluster, Server, Setting};

/// Everything that a test needs, cleaned up on drop.
pub struct World {
    /// The API, as user `alice@example.com`.
    pub api: Api,
    /// The cluster.
    pub cluster: Cluster,
    /// The server, if it belongs to the test.
    pub server: Option<Server>,
    cleanup: Cleanup,
    _deadline: Deadline,
}

/// What is cleaned up with a world.
enum Cleanup {
    /// Nothing: others use it.
    Nothing,
    /// The namespace.
    Namespace,
    /// The engine, with everything that runs on it.
    Engine(PathBuf),
}

impl World {
    /// Uses the server that `K8S_CLI_API_URL` names, or else starts one.
    pub async fn new() -> Self {
        match std::env::var("K8S_CLI_API_URL") {
            Ok(base) => {
                let namespace = std::env::var("K8S_CLI_API_NAMESPACE").unwrap_or_else(|_| "default".to_owned());
                let cluster = Cluster::connect(Some(namespace)).await;
                Self::of(base.trim_end_matches('/'), cluster, None, Cleanup::Nothing)
            }
            Err(_) => Self::own(&[]).await,
        }
    }

    /// Starts a server in a new namespace.
    pub async fn own(arguments: &[&str]) -> Self {
        Self::with_setting(Setting::default(), arguments).await
    }

    /// Does the same with a given setting.
    pub async fn with_setting(setting: Setting, arguments: &[&str]) -> Self {
        match Backend::chosen() {
            Backend::Cluster => Self::on_cluster(setting, arguments).await,
            Backend::Embedded => Self::on_this_machine(setting, arguments).await,
        }
    }

    async fn on_this_machine(setting: Setting, arguments: &[&str]) -> Self {
        let directory = std::env::temp_dir().join(format!("k8s-cli-e2e-{:016x}", fastrand::u64(..)));
        Self::in_directory(&directory, setting, arguments).await
    }

    /// Starts a server on this machine, in a given state directory and with a given setting.
    pub async fn in_directory(directory: &Path, setting: Setting, arguments: &[&str]) -> Self {
        let state = directory.to_string_lossy().into_owned();
        let namespace = format!("e2e-{:08x}", fastrand::u32(..));
        let mut all = vec![
            "--backend",
            "embedded",
            "--state-dir",
            &state,
            "--kube-listen",
            "127.0.0.1:0",
        ];
        all.extend_from_slice(&["--namespace", &namespace]);
        all.extend_from_slice(arguments);
        let server = Server::start_with(setting, &all);
        let cluster = Cluster::of_file(&directory.join("kubeconfig"), &namespace).await;
        Self::of_server(server, cluster, Cleanup::Engine(directory.to_owned()))
    }

    async fn on_cluster(setting: Setting, arguments: &[&str]) -> Self {
        let cluster = Cluster::connect(None).await;
        let mut all = vec!["--namespace", cluster.namespace.as_str()];
        all.extend_from_slice(arguments);
        Self::of_server(Server::start_with(setting, &all), cluster, Cleanup::Namespace)
    }

    fn of_server(server: Server, cluster: Cluster, cleanup: Cleanup) -> Self {
        let base = server.base().to_owned();
        Self::of(&base, cluster, Some(server), cleanup)
    }

    fn of(base: &str, cluster: Cluster, server: Option<Server>, cleanup: Cleanup) -> Self {
        Self {
            api: Api::new(base, "alice@example.com"),
            _deadline: Deadline::start(Some(&cluster)),
            cluster,
            server,
            cleanup,
        }
    }

    /// The state directory of the engine, if tasks run on this machine.
    #[must_use]
    pub fn state_dir(&self) -> Option<&Path> {
        match &self.cleanup {
            Cleanup::Engine(directory) => Some(directory),
            _ => None,
        }
    }

    /// Returns the kubeconfig by which another program reaches the same Kubernetes.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        match self.state_dir() {
            Some(directory) => directory.join("kubeconfig"),
            None => std::env::var_os("KUBECONFIG").expect("KUBECONFIG is not set").into(),
        }
    }

    /// Starts another server for the same tasks.
    #[must_use]
    pub fn another(&self, kubeconfig: &Path, arguments: &[&str]) -> (Server, Api) {
        let mut all = vec!["--backend", "cluster", "--namespace", &self.cluster.namespace];
        all.extend_from_slice(arguments);
        let server = Server::start_on(Some(kubeconfig), &all);
        let api = Api::new(server.base(), "alice@example.com");
        (server, api)
    }

    /// The server of this test.
    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("the server belongs to the environment")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        match &self.cleanup {
            Cleanup::Nothing => return,
            Cleanup::Engine(directory) => {
                self.server = None;
                end_containers(directory);
                let _ = std::fs::remove_dir_all(directory);
                return;
            }
            Cleanup::Namespace => {}
        }
        let cluster = self.cluster.clone();
        // The runtime of the test is busy dropping this value.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                cluster.reconnected().delete().await;
            });
        });
        let _ = deleting.join();
    }
}

/// Returns the running shims of containers, by their directories.
#[must_use]
pub fn shims(state: &Path) -> Vec<i32> {
    let running = |path: PathBuf| {
        let started: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path.join("started.json")).ok()?).ok()?;
        let pid = i32::try_from(started["supervisor"].as_i64()?).ok()?;
        // The PID may have been reused.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let directory = path.to_string_lossy().into_owned();
        String::from_utf8_lossy(&command).contains(&directory).then_some(pid)
    };
    let pods = std::fs::read_dir(state.join("pods")).into_iter().flatten().flatten();
    pods.filter_map(|pod| running(pod.path())).collect()
}

/// Ends containers, which outlive their server, but must not outlive the test.
fn end_containers(state: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let running = shims(state);
        if running.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in running {
            let _ = std::process::Command::new("kill")
                .args(["-USR1", &pid.to_string()])
                .status();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Repeats `ask` until it returns a value.
///
/// # Panics
/// It returns none within the limit.
pub async fn eventually<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "timed out after {limit:?} waiting for {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns a number from the environment variable `name`, or else the default.
#[must_use]
pub fn from_environment(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
