//! Flags that override fields of the task file.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use task::definition::keys;

use super::git::GitFlags;
use super::variables::{self, ENV, EnvVariable, SECRET};
use crate::error::{Error, Result};
use crate::report::TaskSource;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Task options")]
pub(crate) struct Overrides {
    /// Name of the task.
    #[arg(short, long)]
    pub name: Option<String>,

    /// Number of nodes.
    #[arg(long, value_name = "N")]
    pub num_nodes: Option<u32>,

    /// CPUs per node, e.g., 4, 0.5, or 500m.
    #[arg(long)]
    pub cpus: Option<String>,

    /// Memory per node, e.g., 16Gi or 512Mi. A plain number is in GiB.
    #[arg(long)]
    pub memory: Option<String>,

    /// GPUs per node, e.g., 2 or V100:2.
    #[arg(long)]
    pub gpus: Option<String>,

    /// Container image, which must include bash.
    #[arg(long, alias = "image-id")]
    pub image: Option<String>,

    /// Time limit for each node, e.g., 90s, 30m, or 1h30m. Defaults to the server's limit.
    #[arg(long, value_name = "TIME")]
    pub max_duration: Option<String>,

    /// Environment variable; without a value, it is taken from the local environment. Can be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// File with one NAME=VALUE or NAME per line. Overrides the task file and is overridden by --env. Can be repeated.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,

    /// Secret environment variable; without a value, it is taken from the local environment. Can be repeated.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub secret: Vec<String>,

    /// File with one secret NAME=VALUE or NAME per line. Can be repeated.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub secret_file: Vec<PathBuf>,

    /// Volume to mount and its mount path. Can be repeated.
    #[arg(long, value_name = "NAME:PATH")]
    pub volume: Vec<String>,

    /// Local folder to copy to the nodes, in which the task starts. Replaces `workdir` of the task file.
    #[arg(
        long,
        value_name = "DIR",
        value_hint = clap::ValueHint::DirPath,
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub workdir: Option<String>,

    /// Copy no folder, and ignore `workdir` of the task file.
    #[arg(long, conflicts_with = "workdir")]
    pub no_workdir: bool,

    /// Paths to keep, from `--output`.
    #[arg(skip)]
    pub outputs: Vec<String>,

    #[command(flatten)]
    pub git: GitFlags,

    #[command(flatten)]
    pub skypilot: ResourceFlags,
}

/// Further flags of `sky launch`, each for the key of `resources` with its name. The server says what has no effect.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ResourceFlags {
    #[arg(long, hide = true)]
    infra: Option<String>,

    #[arg(long, hide = true)]
    cloud: Option<String>,

    #[arg(long, hide = true)]
    region: Option<String>,

    #[arg(long, hide = true)]
    zone: Option<String>,

    #[arg(long, hide = true)]
    instance_type: Option<String>,

    #[arg(long, hide = true)]
    disk_size: Option<String>,

    #[arg(long, hide = true)]
    disk_tier: Option<String>,

    #[arg(long, hide = true)]
    network_tier: Option<String>,

    #[arg(long, hide = true)]
    job_recovery: Option<String>,

    #[arg(long, hide = true, allow_hyphen_values = true)]
    priority: Option<String>,

    #[arg(long, hide = true)]
    ports: Vec<String>,

    #[arg(long, hide = true)]
    use_spot: bool,
}

impl ResourceFlags {
    /// The key and value of each flag that is set.
    fn values(&self) -> Vec<(&'static str, Value)> {
        let Self {
            infra,
            cloud,
            region,
            zone,
            instance_type,
            disk_size,
            disk_tier,
            network_tier,
            job_recovery,
            priority,
            ports,
            use_spot,
        } = self;
        let texts = [
            ("infra", infra),
            ("cloud", cloud),
            ("region", region),
            ("zone", zone),
            ("instance_type", instance_type),
            ("disk_size", disk_size),
            ("disk_tier", disk_tier),
            ("network_tier", network_tier),
            ("job_recovery", job_recovery),
            ("priority", priority),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(key, text)| Some((key, json!(text.as_ref()?))));
        let ports = (!ports.is_empty()).then(|| ("ports", json!(ports)));
        let spot = use_spot.then(|| ("use_spot", json!(true)));
        texts.chain(ports).chain(spot).collect()
    }
}

impl Overrides {
    /// Applies the flags to `body` and records in `source` which flag set which value, for error messages.
    pub(crate) fn apply(&self, body: &mut Value, source: &mut TaskSource) -> Result<()> {
        if !body.is_object() {
            // `TaskFile::validate` reports it.
            return Ok(());
        }
        self.apply_fields(body, source);
        self.git.apply(body, source)?;
        self.apply_resources(body, source);
        self.apply_variables(body, source)?;
        self.apply_volumes(body, source)?;
        self.apply_outputs(body, source)
    }

    fn apply_fields(&self, body: &mut Value, source: &mut TaskSource) {
        let fields = [
            ("name", "--name", self.name.as_ref().map(|name| json!(name))),
            (
                "workdir",
                "--workdir",
                self.workdir.as_ref().map(|folder| json!(folder)),
            ),
            (
                "max_duration",
                "--max-duration",
                self.max_duration.as_ref().map(|time| json!(time)),
            ),
            ("num_nodes", "--num-nodes", self.num_nodes.map(|nodes| json!(nodes))),
        ];
        for (key, flag, value) in fields {
            if let Some(value) = value {
                body[key] = value;
                source.record_flag(&[key], flag);
            }
        }
        if let Some(fields) = body.as_object_mut().filter(|_| self.no_workdir) {
            fields.retain(|key, _| key != "workdir");
        }
    }

    fn apply_resources(&self, body: &mut Value, source: &mut TaskSource) {
        let ours = [
            ("cpus", "--cpus", &self.cpus),
            ("memory", "--memory", &self.memory),
            ("accelerators", "--gpus", &self.gpus),
            ("image_id", "--image", &self.image),
        ];
        let ours = ours
            .into_iter()
            .filter_map(|(key, flag, value)| Some((key, flag.to_owned(), json!(value.as_ref()?))));
        let named = |(key, value): (&'static str, Value)| (key, format!("--{}", key.replace('_', "-")), value);
        for (key, flag, value) in ours.chain(self.skypilot.values().into_iter().map(named)) {
            if let Some(resources) = object_entry(body, "resources") {
                set_resource(resources, key, value);
                source.record_flag(&["resources", key], &flag);
            }
        }
    }

    fn apply_variables(&self, body: &mut Value, source: &mut TaskSource) -> Result<()> {
        for (kind, files, flags) in [
            (ENV, &self.env_file, &self.env),
            (SECRET, &self.secret_file, &self.secret),
        ] {
            for EnvVariable { name, value, flag } in variables::from_flags(kind, files, flags)? {
                if let Some(variables) = object_entry(body, kind.key) {
                    variables.insert(name.clone(), Value::String(value));
                    source.record_flag(&[kind.key, &name], &flag);
                }
            }
        }
        Ok(())
    }

    fn apply_volumes(&self, body: &mut Value, source: &mut TaskSource) -> Result<()> {
        for mount in &self.volume {
            let (name, path) = parse_mount(mount)?;
            if let Some(volumes) = object_entry(body, "volumes") {
                volumes.insert(path.to_owned(), json!(name));
                source.record_flag(&["volumes", path], &format!("--volume {mount}"));
            }
        }
        Ok(())
    }

    fn apply_outputs(&self, body: &mut Value, source: &mut TaskSource) -> Result<()> {
        for path in &self.outputs {
            let name = output_name(path)?;
            if let Some(kept) = object_entry(body, "outputs") {
                if source.is_flag(&["outputs", name]) {
                    return Err(Error::Usage(format!(
                        "two outputs are named `{name}`; name them with `outputs` in a task file"
                    )));
                }
                kept.insert(name.to_owned(), json!(path));
                source.record_flag(&["outputs", name], &format!("--output {path}"));
            }
        }
        Ok(())
    }
}

/// The name of an output: the last part of its path.
fn output_name(path: &str) -> Result<&str> {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match name {
        "" | "." | ".." | "~" => Err(Error::Usage(format!(
            "`--output {path}` has no name; name it with `outputs` in a task file, e.g., `outputs: {{./results: {path}}}`"
        ))),
        name => Ok(name),
    }
}

/// Sets a key of `resources`, in place of the keys that mean the same, and for all alternatives.
fn set_resource(resources: &mut Map<String, Value>, key: &str, value: Value) {
    let replaced = || keys::aliases(key).iter().copied().chain([key]);
    for list in ["any_of", "ordered"] {
        let alternatives = resources.get_mut(list).and_then(Value::as_array_mut);
        for alternative in alternatives.into_iter().flatten().filter_map(Value::as_object_mut) {
            alternative.retain(|known, _| replaced().all(|key| key != known.as_str()));
        }
    }
    resources.retain(|known, _| replaced().all(|key| key != known.as_str()));
    resources.insert(key.to_owned(), value);
}

fn parse_mount(mount: &str) -> Result<(&str, &str)> {
    mount
        .split_once(':')
        .filter(|(name, path)| !name.is_empty() && path.starts_with('/'))
        .ok_or_else(|| {
            Error::Usage(format!(
                "invalid value `{mount}` for `--volume`; expected a volume and an absolute path, e.g., `my-data:/data`"
            ))
        })
}

/// The object at `key`, created if missing; `None` if the value is not an object. Validation then reports it.
pub(super) fn object_entry<'a>(body: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = body.as_object_mut()?.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}
