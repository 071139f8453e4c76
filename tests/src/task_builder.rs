//! Task definitions for tests.

use serde::Serialize;
use serde_json::{Value, json};

/// A task definition, as JSON.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct TaskBuilder(Value);

/// A task that runs this script on little CPU, so that several nodes fit on a small machine.
#[must_use]
pub fn small_task(run: impl Into<String>) -> TaskBuilder {
    TaskBuilder::new(run).cpus("10m")
}

impl TaskBuilder {
    /// A task that runs this script with the default resources.
    #[must_use]
    pub fn new(run: impl Into<String>) -> Self {
        Self(json!({ "run": run.into() }))
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.0["name"] = name.into();
        self
    }

    /// Sets the number of nodes.
    #[must_use]
    pub fn nodes(mut self, count: u32) -> Self {
        self.0["num_nodes"] = count.into();
        self
    }

    /// Sets the script that runs before `run`.
    #[must_use]
    pub fn setup(mut self, script: &str) -> Self {
        self.0["setup"] = script.into();
        self
    }

    /// Sets the directory in which the scripts start.
    #[must_use]
    pub fn workdir(mut self, path: &str) -> Self {
        self.0["workdir"] = path.into();
        self
    }

    /// Adds a hook.
    #[must_use]
    pub fn hook(mut self, hook: Value) -> Self {
        match &mut self.0["config"]["hooks"] {
            Value::Array(hooks) => hooks.push(hook),
            hooks => *hooks = json!([hook]),
        }
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0["envs"][name] = value.into();
        self
    }

    /// Mounts a volume.
    #[must_use]
    pub fn volume(mut self, path: &str, name: &str) -> Self {
        self.0["volumes"][path] = name.into();
        self
    }

    /// Sets the CPUs of each node.
    #[must_use]
    pub fn cpus(self, amount: impl Into<Value>) -> Self {
        self.resource("cpus", amount)
    }

    /// Sets the memory of each node.
    #[must_use]
    pub fn memory(self, amount: impl Into<Value>) -> Self {
        self.resource("memory", amount)
    }

    /// Sets the image.
    #[must_use]
    pub fn image(self, image: &str) -> Self {
        self.resource("image_id", image)
    }

    /// Sets when to run the task again: a strategy, or an object with its options.
    #[must_use]
    pub fn recovery(self, recovery: impl Into<Value>) -> Self {
        self.resource("job_recovery", recovery)
    }

    /// Sets the time limit.
    #[must_use]
    pub fn max_duration(mut self, duration: &str) -> Self {
        self.0["max_duration"] = duration.into();
        self
    }

    /// Sets the provisioning timeout, in seconds; -1 is unlimited.
    #[must_use]
    pub fn provision_timeout(mut self, seconds: i64) -> Self {
        self.0["config"]["kubernetes"]["provision_timeout"] = seconds.into();
        self
    }

    /// Sets the Kueue queue.
    #[must_use]
    pub fn queue(mut self, name: &str) -> Self {
        self.0["config"]["kubernetes"]["kueue"]["local_queue_name"] = name.into();
        self
    }

    fn resource(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0["resources"][key] = value.into();
        self
    }
}
