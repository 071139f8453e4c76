//! The Kubernetes that the suite runs on.

/// A kind of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The embedded engine in each server's own process.
    Embedded,
    /// The cluster that `KUBECONFIG` names.
    Cluster,
}

impl Backend {
    /// Returns the backend that `K8S_CLI_E2E_BACKEND` selects, by default `embedded`.
    ///
    /// # Panics
    /// The variable has another value.
    #[must_use]
    pub fn chosen() -> Self {
        match std::env::var("K8S_CLI_E2E_BACKEND").as_deref() {
            Ok("cluster") => Self::Cluster,
            Ok("embedded") | Err(_) => Self::Embedded,
            Ok(other) => panic!("K8S_CLI_E2E_BACKEND is `{other}`; it must be `embedded` or `cluster`"),
        }
    }

    /// Whether a test cannot run because this is the selected backend. Prints the reason.
    #[must_use]
    pub fn lacks(self, what: &str) -> bool {
        let lacks = Self::chosen() == self;
        if lacks {
            println!("skipped on {self:?}: {what}");
        }
        lacks
    }
}
