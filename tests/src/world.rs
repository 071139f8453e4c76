//! A server, a user of it, and the cluster behind it, for one test.

use std::time::{Duration, Instant};

use crate::{Api, Cluster, Server};

/// All that a test needs; what it made goes when it is dropped.
pub struct World {
    /// The API, as user `alice@example.com`.
    pub api: Api,
    /// The cluster.
    pub cluster: Cluster,
    /// The server, when it is the test's own.
    pub server: Option<Server>,
    own_namespace: bool,
}

impl World {
    /// The server that `K8S_CLI_API_URL` names, or one of the test's own.
    pub async fn new() -> Self {
        match std::env::var("K8S_CLI_API_URL") {
            Ok(base) => {
                let namespace = std::env::var("K8S_CLI_API_NAMESPACE").unwrap_or_else(|_| "default".to_owned());
                Self {
                    api: Api::new(base.trim_end_matches('/'), "alice@example.com"),
                    cluster: Cluster::connect(Some(namespace)).await,
                    server: None,
                    own_namespace: false,
                }
            }
            Err(_) => Self::own(&[]).await,
        }
    }

    /// A server of the test's own, in a new namespace.
    pub async fn own(arguments: &[&str]) -> Self {
        let cluster = Cluster::connect(None).await;
        let mut all = vec!["--namespace", cluster.namespace.as_str()];
        all.extend_from_slice(arguments);
        let server = Server::start(&all);
        Self {
            api: Api::new(server.base(), "alice@example.com"),
            cluster,
            server: Some(server),
            own_namespace: true,
        }
    }

    /// The test's own server.
    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("a server of the test's own")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.own_namespace {
            return;
        }
        let cluster = self.cluster.clone();
        // The test's runtime is busy dropping this.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                // Its own client: the other one's worker belongs to the test's runtime.
                Cluster::connect(Some(cluster.namespace)).await.delete().await;
            });
        });
        let _ = deleting.join();
    }
}

/// Asks again until there is an answer.
///
/// # Panics
/// There is none in time.
pub async fn eventually<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How often a long test repeats itself: `usual` times, or what `name` says in the environment.
#[must_use]
pub fn repetitions(name: &str, usual: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}
