//! The fingerprint of a task definition, which tells whether a repeated `Idempotency-Key` is the same request.

use std::fmt;

use serde::Serialize;
use task::{GroupDefinition, TaskDefinition};

use crate::error::Error;
use crate::tokens;

/// Marks the way in which a fingerprint is computed. Change it whenever an existing definition gets another one, e.g.,
/// because a field is renamed: the test below fails then.
const VERSION: &str = "v2.";

/// A hash of a task definition, stored in an annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Computes the fingerprint of a definition.
    pub fn of(definition: &TaskDefinition) -> Result<Self, Error> {
        Self::of_json(definition)
    }

    /// Computes the fingerprint of a group.
    pub fn of_group(definition: &GroupDefinition) -> Result<Self, Error> {
        Self::of_json(definition)
    }

    fn of_json(definition: &impl Serialize) -> Result<Self, Error> {
        let json = serde_json::to_vec(definition).map_err(|source| Error::Encoding { source })?;
        Ok(Self(format!("{VERSION}{}", tokens::hash(&[&json]))))
    }

    /// Whether an object with the fingerprint `stored` may come from the same definition. The fingerprint of another
    /// version of the server cannot be compared. It counts as the same, because a client that retries across an upgrade
    /// must get its task; a client that reuses its key for another task is wrong anyway.
    #[must_use]
    pub fn matches(&self, stored: Option<&str>) -> bool {
        stored.is_some_and(|stored| stored == self.0 || !stored.starts_with(VERSION))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use task::definition::MAX_NODES;

    use super::{Fingerprint, TaskDefinition};

    fn fingerprint(body: &Value) -> Fingerprint {
        Fingerprint::of(&TaskDefinition::parse(body, MAX_NODES).unwrap()).unwrap()
    }

    #[test]
    fn the_fingerprint_of_a_definition_stays_the_same_across_versions() {
        insta::assert_snapshot!(fingerprint(&json!({ "run": "true" })), @"v2.e5b4476988ebd7278514ed2962f4629f64edcba9b7ad20799f50da54");
        let body = json!({
            "name": "train",
            "workdir": "/data",
            "num_nodes": 2,
            "resources": {
                "cpus": "4+",
                "memory": 16,
                "accelerators": "H100:8",
                "image_id": "docker:python:3.13-slim",
                "job_recovery": { "max_restarts_on_errors": 3, "recover_on_exit_codes": [33] },
            },
            "envs": { "B": "1", "A": 2 },
            "volumes": { "/data": "data" },
            "setup": "pip install torch",
            "run": "python train.py",
            "max_duration": "1h30m",
            "config": { "kubernetes": { "provision_timeout": 600, "kueue": { "local_queue_name": "gpus" } } },
        });
        insta::assert_snapshot!(fingerprint(&body), @"v2.dbb44ce0cd940e1ae413d1ccb540be8bcb799d0c527d1fe25a874b03");
    }

    #[test]
    fn warnings_are_not_part_of_the_fingerprint() {
        let with_warnings =
            json!({ "run": "true", "file_mounts": { "/a": "./a" }, "resources": { "disk_tier": "low" } });
        assert_eq!(fingerprint(&with_warnings), fingerprint(&json!({ "run": "true" })));
    }

    #[test]
    fn only_fingerprints_of_the_same_version_can_differ() {
        let (here, there) = (fingerprint(&json!({ "run": "a" })), fingerprint(&json!({ "run": "b" })));
        assert!(here.matches(Some(&here.to_string())));
        assert!(!here.matches(Some(&there.to_string())));
        assert!(!here.matches(None));
        // Servers before `v1.` stored a hash without a version.
        assert!(here.matches(Some("5f0d3b1c2a4e")));
    }
}
