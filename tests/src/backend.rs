//! Which Kubernetes the suite runs on.

/// A Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The engine in each server's own process.
    Embedded,
    /// The cluster that `KUBECONFIG` names.
    Cluster,
}

impl Backend {
    /// What `K8S_CLI_E2E_BACKEND` says; `embedded` when it says nothing.
    ///
    /// # Panics
    /// It says something else.
    #[must_use]
    pub fn chosen() -> Self {
        match std::env::var("K8S_CLI_E2E_BACKEND").as_deref() {
            Ok("cluster") => Self::Cluster,
            Ok("embedded") | Err(_) => Self::Embedded,
            Ok(other) => panic!("K8S_CLI_E2E_BACKEND is `{other}`; it must be `embedded` or `cluster`"),
        }
    }

    /// Whether a test cannot be run on the chosen one, and says why.
    #[must_use]
    pub fn lacks(self, what: &str) -> bool {
        let lacks = Self::chosen() == self;
        if lacks {
            println!("not on {self:?}: {what}");
        }
        lacks
    }
}
