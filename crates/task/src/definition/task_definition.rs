//! The definition of a task, as a user submits it.

use std::collections::HashSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::alternatives::{Alternatives, parse_resources};
use super::config::{KubernetesConfig, parse_config};
use super::copies::{CopyMount, MAX_COPIES};
use super::duration;
use super::envs::{self, is_reserved_variable, parse_envs};
use super::file_mounts::parse_file_mounts;
use super::files::{FileMount, Target, parse_files};
use super::hooks::{self, Hook};
use super::keys::TASK;
use super::metadata;
use super::outputs::{Output, parse_outputs};
use super::resources::Resources;
use super::scripts::parse_script;
use super::secrets::{self, Redacted, RegistryLogin, Secret, parse_secrets, redact, registry_login};
use super::substitution::fill_variables;
use super::volume_mounts::{MAX_VOLUMES, VolumeMount, parse_volume_mounts};
use super::workdir::{Workdir, parse_workdir};
use crate::name::Name;
use crate::validation::{self, ErrorDetail, Fields, Validator, coerce};

/// The maximum number of nodes per task.
pub const MAX_NODES: u32 = 1000;

/// The maximum size of mount paths, outputs, labels, annotations, and `pod_config` together. Each of up to a thousand nodes stores them twice.
const MAX_POD_BYTES: usize = 32 * 1024;

/// A valid task.
///
/// Serializes without the fields that are absent, so that new fields do not change the JSON of tasks that lack them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskDefinition {
    /// The name of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Where `setup` and `run` start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<Workdir>,
    /// The number of nodes; at least 1.
    pub num_nodes: u32,
    /// The resources of each node, or the first of their alternatives.
    pub resources: Resources,
    /// The alternatives of the resources, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternatives: Option<Alternatives>,
    /// Environment variables, in the order of the definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub envs: Vec<(String, String)>,
    /// Secret environment variables, in the order of the definition. Only their names are serialized.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<(String, Secret)>,
    /// The login to the registry of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_login: Option<RegistryLogin>,
    /// Volumes, in the order of the definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMount>,
    /// File sets, in the order of the definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileMount>,
    /// What is kept when the nodes end, in the order of the definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Output>,
    /// What each node copies from buckets and web servers, in the order of the definition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyMount>,
    /// The Bash script that runs before `run` and must succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// The Bash script of the task.
    pub run: String,
    /// The time limit of each node; if absent, the server's default applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
    /// Kubernetes settings.
    pub kubernetes: KubernetesConfig,
    /// The scripts to run before the processes of a node are terminated, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Warnings for the user about fields that have no effect. Not serialized, because they may be reworded.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

impl TaskDefinition {
    /// Whether its nodes have a working folder of their own, with a repository, files, or copies in it.
    #[must_use]
    pub fn has_working_dir(&self) -> bool {
        let is_cloned = matches!(self.workdir, Some(Workdir::Repository(_)));
        is_cloned || fill_working_dir(&self.files, &self.copies)
    }

    /// Parses a definition from a request body, and reports every error in it. `max_nodes` is the limit of the server.
    pub fn parse(body: &Value, max_nodes: u32) -> Result<Self, Vec<ErrorDetail>> {
        let Redacted {
            body,
            secrets,
            login_key,
        } = redact(body);
        let parsed = validation::validate(&fill_variables(&body), "body", |value, validator| {
            let definition = Self::from_value(value, (&secrets, login_key), validator, max_nodes)?;
            let warnings = validator.take_warnings();
            Some(Self { warnings, ..definition })
        });
        parsed.map_err(|mut errors| {
            secrets::hide_in_errors(&mut errors);
            errors
        })
    }

    /// Whether the user sets an environment variable with this name.
    #[must_use]
    pub fn sets_variable(&self, name: &str) -> bool {
        let secrets = self.secrets.iter().map(|(known, _)| known);
        self.envs
            .iter()
            .map(|(known, _)| known)
            .chain(secrets)
            .any(|known| known == name)
    }

    /// The size of all environment variables together, including their names, in bytes.
    #[must_use]
    pub fn variables_bytes(&self) -> usize {
        envs::total_bytes(&self.envs)
    }

    /// Parses a body whose secrets are redacted; `secrets` are their values. A mistake in the registry login is reported
    /// at `login_key`.
    fn from_value(
        value: &Value,
        (secrets, login_key): (&Map<String, Value>, &'static str),
        validator: &mut Validator,
        max_nodes: u32,
    ) -> Option<Self> {
        let errors_before = validator.error_count();
        let mut fields = Fields::from_value(value, validator)?;
        let name = fields.optional("name", Name::from_value);
        let workdir = fields.optional("workdir", parse_workdir);
        let num_nodes = fields.with_default("num_nodes", 1, parse_num_nodes);
        let resources = fields.optional("resources", parse_resources);
        let (resources, alternatives) = resources.unwrap_or_default();
        let envs = fields.optional("envs", parse_envs).unwrap_or_default();
        let secrets = fields.optional("secrets", |value, validator| parse_secrets(value, secrets, validator));
        let secrets = secrets.unwrap_or_default();
        secrets::check_names(&envs, &secrets, &mut fields);
        let registry_login = registry_login(&secrets).unwrap_or_else(|reason| {
            fields.value_error(login_key, reason);
            None
        });
        let file_mounts = fields.optional("file_mounts", parse_file_mounts);
        let mut volumes = fields.optional("volumes", parse_volume_mounts).unwrap_or_default();
        let (of_mounts, copies) = file_mounts.unwrap_or_default();
        volumes.extend(of_mounts);
        let files = fields.optional("files", parse_files).unwrap_or_default();
        let outputs = fields.optional("outputs", parse_outputs).unwrap_or_default();
        let setup = fields.optional("setup", parse_script);
        let run = match (&setup, fields.has("run")) {
            // As in SkyPilot, a setup alone is a task.
            (Some(_), false) => fields.optional("run", parse_script).or_else(|| Some(String::new())),
            _ => fields.required("run", parse_script),
        };
        let max_duration = fields.optional("max_duration", duration::from_value);
        let (kubernetes, hooks) = fields.optional("config", parse_config).unwrap_or_default();
        TASK.finish(fields);

        let (num_nodes, run) = (num_nodes?, run?);
        // Check the limits of this server last, and only if there are no other errors: the reference implementation
        // does not have them, and its clients expect exactly its errors.
        if validator.error_count() > errors_before {
            return None;
        }
        let num_nodes = check_max_nodes(num_nodes, max_nodes, value, validator)?;
        let definition = Self {
            name,
            workdir,
            num_nodes,
            resources,
            alternatives,
            envs,
            secrets,
            registry_login,
            volumes,
            files,
            outputs,
            copies,
            setup,
            run,
            max_duration,
            kubernetes,
            hooks,
            warnings: Vec::new(),
        };
        definition.check_limits(value, validator)?;
        definition.warn_of_reserved_variables(validator);
        Some(definition)
    }

    fn check_limits(&self, value: &Value, validator: &mut Validator) -> Option<()> {
        let (workdir, volumes, copies) = (self.workdir.as_ref(), &self.volumes, &self.copies);
        let variable_bytes = envs::total_bytes(&self.envs) + secrets::bytes(&self.secrets);
        envs::check_total_bytes(variable_bytes, value, validator)?;
        hooks::check_total_bytes(&self.hooks, self.setup.as_deref(), &self.run, value, validator)?;
        check_mounts(volumes, value, validator)?;
        check_clone(volumes, workdir, value, validator)?;
        check_working_dir(volumes, fill_working_dir(&self.files, copies), value, validator)?;
        check_files(&self.files, workdir, value, validator)?;
        check_copies(copies, &self.files, workdir, value, validator)?;
        let mount_bytes = volumes.iter().map(VolumeMount::bytes).sum::<usize>()
            + copies.iter().map(CopyMount::bytes).sum::<usize>()
            + self.outputs.iter().map(Output::bytes).sum::<usize>();
        check_pod_bytes(mount_bytes, &self.resources, &self.kubernetes, value, validator)
    }

    fn warn_of_reserved_variables(&self, validator: &mut Validator) {
        let names = self.envs.iter().map(|(name, _)| ("envs", name));
        let names = names.chain(self.secrets.iter().map(|(name, _)| ("secrets", name)));
        for (key, name) in names.filter(|(_, name)| is_reserved_variable(name)) {
            validator.warn(format!(
                "`{key}.{name}` is ignored; the server sets this variable for each node"
            ));
        }
    }
}

/// Checks the mounts of `volumes` and `file_mounts` together.
fn check_mounts(mounts: &[VolumeMount], body: &Value, validator: &mut Validator) -> Option<()> {
    let mut paths = HashSet::new();
    let duplicate = mounts.iter().find(|mount| !paths.insert(mount.path.as_str()));
    let reason = match duplicate {
        Some(VolumeMount { path, .. }) => format!("two volumes are mounted at `{path}`; remove one of them"),
        None if mounts.len() > MAX_VOLUMES => {
            format!("a task can mount at most {MAX_VOLUMES} volumes, including those of `volumes`")
        }
        None => return Some(()),
    };
    let key = if body["file_mounts"].is_null() {
        "volumes"
    } else {
        "file_mounts"
    };
    validator.within(key, |validator| validator.value_error(reason, &body[key]))
}

/// Checks that git cannot touch a volume: a checkout deletes anything in the way of a file or link of the repository.
fn check_clone(
    volumes: &[VolumeMount],
    workdir: Option<&Workdir>,
    body: &Value,
    validator: &mut Validator,
) -> Option<()> {
    if workdir.and_then(Workdir::repository).is_none() {
        return Some(());
    }
    let is_in_clone = |mount: &&VolumeMount| parts(&mount.path).next() == Some("sky_workdir");
    let Some(VolumeMount { path, .. }) = volumes.iter().find(is_in_clone) else {
        return Some(());
    };
    let reason = format!(
        "the repository of `workdir` is cloned into `/sky_workdir`, where it could replace what is in the volume; mount \
         it elsewhere than at `{path}`"
    );
    let key = volumes_key(body);
    validator.within(key, |validator| validator.value_error(reason, &body[key]))
}

/// Whether files or copies are put into the working folder.
fn fill_working_dir(files: &[FileMount], copies: &[CopyMount]) -> bool {
    let of_files = files.iter().map(|mount| &mount.target);
    let mut targets = of_files.chain(copies.iter().map(|copy| &copy.target));
    targets.any(|target| matches!(target, Target::WorkingDir(_)))
}

/// Checks that no volume is in the place of the files of the task. Below it, a volume may be.
fn check_working_dir(
    volumes: &[VolumeMount],
    has_working_dir: bool,
    body: &Value,
    validator: &mut Validator,
) -> Option<()> {
    let is_same = |mount: &VolumeMount| parts(&mount.path).eq(["sky_workdir"]);
    if !has_working_dir || !volumes.iter().any(is_same) {
        return Some(());
    }
    let reason = "the files of the task are in `/sky_workdir`; mount the volume elsewhere, or in a directory below it";
    let key = volumes_key(body);
    validator.within(key, |validator| validator.value_error(reason, &body[key]))
}

/// The parts of a path that name something.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// The key of the request with the volumes.
fn volumes_key(body: &Value) -> &'static str {
    if body["volumes"].is_null() {
        "file_mounts"
    } else {
        "volumes"
    }
}

/// Checks that each file set has a place of its own, and that there is one working folder.
fn check_files(files: &[FileMount], workdir: Option<&Workdir>, body: &Value, validator: &mut Validator) -> Option<()> {
    let mut targets = HashSet::new();
    let has_duplicate = !files.iter().all(|mount| targets.insert(&mount.target));
    let has_copy = files
        .iter()
        .any(|mount| mount.target == Target::WorkingDir(String::new()));
    let reason = match workdir {
        _ if has_duplicate => "two file sets have the same path; remove one of them".to_owned(),
        Some(workdir) if has_copy => {
            format!("the task starts in `{workdir}` and in a file set; remove `workdir` or the file set `.`")
        }
        _ => return Some(()),
    };
    validator.within("files", |validator| validator.value_error(reason, &body["files"]))
}

/// Checks that each copy has a place of its own, and that there is one working folder.
fn check_copies(
    copies: &[CopyMount],
    files: &[FileMount],
    workdir: Option<&Workdir>,
    body: &Value,
    validator: &mut Validator,
) -> Option<()> {
    let mut targets: HashSet<&Target> = files.iter().map(|mount| &mount.target).collect();
    let is_working_dir = |copy: &CopyMount| copy.target == Target::WorkingDir(String::new());
    let reason = match workdir {
        _ if copies.len() > MAX_COPIES => format!("a task can copy from at most {MAX_COPIES} addresses"),
        _ if !copies.iter().all(|copy| targets.insert(&copy.target)) => {
            "two mounts have the same path; remove one of them".to_owned()
        }
        Some(workdir) if copies.iter().any(is_working_dir) => {
            format!("the task starts in `{workdir}` and in a copy; remove `workdir` or the mount of the working folder")
        }
        _ => return Some(()),
    };
    validator.within("file_mounts", |validator| {
        validator.value_error(reason, &body["file_mounts"])
    })
}

/// Checks the size of what each pod and each Job contains a copy of, besides scripts and variables.
fn check_pod_bytes(
    mount_bytes: usize,
    resources: &Resources,
    kubernetes: &KubernetesConfig,
    body: &Value,
    validator: &mut Validator,
) -> Option<()> {
    let bytes = mount_bytes
        + metadata::bytes(&resources.labels)
        + kubernetes.metadata.bytes()
        + kubernetes
            .pod_config
            .as_ref()
            .map_or(0, |config| config.to_string().len());
    if bytes <= MAX_POD_BYTES {
        return Some(());
    }
    validator.value_error(
        format!("mount paths, outputs, labels, annotations, and `pod_config` exceed the limit of {MAX_POD_BYTES} bytes ({bytes} bytes)"),
        body,
    )
}

fn parse_num_nodes(value: &Value, validator: &mut Validator) -> Option<i64> {
    let nodes = coerce::integer(value, validator)?;
    if nodes >= 1 {
        return Some(nodes);
    }
    validator.push_error_with_context(
        "greater_than_equal",
        "Input should be greater than or equal to 1",
        value,
        serde_json::json!({ "ge": 1 }),
    )
}

fn check_max_nodes(nodes: i64, max_nodes: u32, body: &Value, validator: &mut Validator) -> Option<u32> {
    match u32::try_from(nodes) {
        Ok(nodes) if nodes <= max_nodes => Some(nodes),
        _ => validator.within("num_nodes", |validator| {
            validator.push_error_with_context(
                "less_than_equal",
                format!("Input should be less than or equal to {max_nodes}"),
                &body["num_nodes"],
                serde_json::json!({ "le": max_nodes }),
            )
        }),
    }
}
