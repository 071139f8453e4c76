//! Flags that say otherwise than the file.

use std::path::PathBuf;

use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::report::Origin;
use super::{object, variables};
use crate::commands::completions;
use crate::error::{Error, Result};

/// What flags can change about a task.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Changes to the task")]
pub struct Overrides {
    /// Name of the task.
    #[arg(long)]
    pub name: Option<String>,

    /// How many nodes run it at once.
    #[arg(long, value_name = "N")]
    pub num_nodes: Option<u32>,

    /// Processors of each node: 4, 0.5, 500m.
    #[arg(long)]
    pub cpus: Option<String>,

    /// Memory of each node: 16 (GiB), 16Gi, 512Mi.
    #[arg(long)]
    pub memory: Option<String>,

    /// GPUs of each node: 2, V100:2.
    #[arg(long)]
    pub gpus: Option<String>,

    /// Container image, with bash in it.
    #[arg(long)]
    pub image: Option<String>,

    /// How long each node may run: 90s, 30m, 1h30m.
    #[arg(long, value_name = "TIME")]
    pub max_duration: Option<String>,

    /// A variable, or the name of one whose value is taken from here; may be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// File with NAME=VALUE or NAME in each line, values as they are; --env wins over it, and it wins over the task file.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,

    /// A volume and the folder at which it is seen; may be repeated.
    #[arg(long, value_name = "NAME:PATH", add = ArgValueCandidates::new(completions::volumes_to_mount))]
    pub volume: Vec<String>,
}

impl Overrides {
    /// Changes `body`, and notes where the new values come from.
    ///
    /// # Errors
    /// A flag cannot be understood, or a file not be read.
    pub fn apply(&self, body: &mut Value, origin: &mut Origin) -> Result<()> {
        let Self {
            name,
            num_nodes,
            cpus,
            memory,
            gpus,
            image,
            max_duration,
            env,
            env_file,
            volume,
        } = self;
        if !body.is_object() {
            // The check that follows says so at its place.
            return Ok(());
        }
        if let Some(name) = name {
            body["name"] = json!(name);
            origin.set_by(&["name"], "--name");
        }
        if let Some(time) = max_duration {
            body["max_duration"] = json!(time);
            origin.set_by(&["max_duration"], "--max-duration");
        }
        if let Some(nodes) = num_nodes {
            body["num_nodes"] = json!(nodes);
            origin.set_by(&["num_nodes"], "--num-nodes");
        }
        let resources = [
            ("cpus", "--cpus", cpus),
            ("memory", "--memory", memory),
            ("accelerators", "--gpus", gpus),
            ("image_id", "--image", image),
        ];
        for (key, flag, value) in resources {
            if let Some(value) = value
                && let Some(resources) = object(body, "resources")
            {
                resources.insert(key.to_owned(), json!(value));
                origin.set_by(&["resources", key], flag);
            }
        }
        for (name, value, flag) in variables::from_flags(env_file, env)? {
            if let Some(envs) = object(body, "envs") {
                envs.insert(name.clone(), Value::String(value));
                origin.set_by(&["envs", &name], &flag);
            }
        }
        for mount in volume {
            let (name, path) = mount_of(mount)?;
            if let Some(volumes) = object(body, "volumes") {
                volumes.insert(path.to_owned(), json!(name));
                origin.set_by(&["volumes", path], &format!("--volume {mount}"));
            }
        }
        Ok(())
    }
}

fn mount_of(mount: &str) -> Result<(&str, &str)> {
    mount
        .split_once(':')
        .filter(|(name, path)| !name.is_empty() && path.starts_with('/'))
        .ok_or_else(|| {
            Error::Usage(format!(
                "`--volume {mount}`: write a volume and a folder, such as `my-data:/data`"
            ))
        })
}
