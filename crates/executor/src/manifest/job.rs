//! The Job of one node.

use std::collections::{BTreeMap, HashMap};

use task::Resources;
use task::definition::{EphemeralVolume, VolumeSource};

use super::escape::escape;
use super::process_one::init_script;
use super::script::{SCRIPT_DIR, SCRIPT_KEY, Script};
use super::submission::Submission;
use super::{
    alternatives, definition, environment, fetch, files, gang, hooks, node_selection, outputs, port_service, program,
    queue, secrets, security, unkept,
};
use crate::kubernetes::{
    ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EphemeralVolumeSource, Job, JobSpec, ObjectMeta,
    OwnerReference, PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate, PersistentVolumeClaimVolumeSource,
    PodSpec, PodTemplateSpec, Quantity, ResourceRequirements, Volume, VolumeMount, VolumeResourceRequirements,
};
use crate::labels;
use crate::placement::resource_name;
use crate::pod_config;
use crate::settings::DefaultRequests;

/// The image of tasks that don't set one, unless the operator sets another.
const DEFAULT_IMAGE: &str = "python:3.13-slim";

/// Container runtimes limit shared memory to 64 MiB, too little for the data loaders of `PyTorch`. In a volume it is only
/// limited by the memory of the container.
const SHARED_MEMORY_DIR: &str = "/dev/shm";
const SHARED_MEMORY_VOLUME: &str = "k8s-cli-shm";

/// The name of the volume with long scripts.
const SCRIPT_VOLUME: &str = "k8s-cli-script";

/// The Job of the node with this `rank`, owned by `owner` if the task has one.
#[must_use]
pub fn job(submission: &Submission, rank: u32, owner: Option<&OwnerReference>) -> Job {
    let mut metadata = submission.metadata(submission.job_name(rank));
    metadata.labels = Some(labels(submission, rank));
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(policy_annotations(submission).map(|(name, value)| (name.to_owned(), value)));
    annotations.extend(port_service::annotations(submission));
    let held = queue::held_job(submission);
    annotations.extend(
        held.as_ref()
            .map(|held| (labels::HELD.to_owned(), held.to_annotation())),
    );
    metadata
        .labels
        .get_or_insert_default()
        .extend(queue::job_labels(submission));
    let template = template(submission, rank);
    let alternatives = alternatives::annotation(submission, &template, |next| self::template(next, rank));
    let annotations = metadata.annotations.get_or_insert_default();
    if owner.is_none() {
        annotations.extend(definition::annotations(submission, || template.spec.clone()));
    }
    annotations.extend(alternatives.map(|patches| (labels::ALTERNATIVES.to_owned(), patches)));
    metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
    // Kubernetes would delete the Job before its log is archived, or only one Job of several.
    let is_kubernetes = !submission.needs_owner() && !submission.is_archived;
    let ttl = submission.ttl_after_finished().filter(|_| is_kubernetes);
    let ttl = ttl.and_then(|seconds| i32::try_from(seconds).ok());
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            suspend: held.map(|_| true),
            ttl_seconds_after_finished: ttl,
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// The pods of the Job of one node.
pub(super) fn template(submission: &Submission, rank: u32) -> PodTemplateSpec {
    let mut pod_metadata = pod_metadata(submission, labels(submission, rank));
    queue::configure_pod_metadata(&mut pod_metadata, submission);
    let mut template = PodTemplateSpec {
        metadata: Some(pod_metadata),
        spec: Some(pod(submission, rank)),
    };
    if let Some(config) = &submission.definition.kubernetes.pod_config {
        pod_config::apply(&mut template, config);
    }
    template
}

fn labels(submission: &Submission, rank: u32) -> BTreeMap<String, String> {
    let mut labels = submission.labels();
    labels.insert(labels::NODE_INDEX.to_owned(), rank.to_string());
    labels
}

/// The user's labels and annotations, and ours, which cannot be replaced: the definition rejects their keys.
fn pod_metadata(submission: &Submission, labels: BTreeMap<String, String>) -> ObjectMeta {
    let definition = &submission.definition;
    let custom = definition.kubernetes.metadata.clone();
    let mut all_labels = definition.resources.labels.clone();
    all_labels.extend(custom.labels);
    all_labels.extend(labels);
    let mut annotations = custom.annotations;
    // The cache accepts only pods with this annotation, which proves that they come from this template.
    annotations.insert(labels::SUBMISSION.to_owned(), submission.token.clone());
    ObjectMeta {
        labels: Some(all_labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

/// The annotations that tell the server what to do with the Jobs of the task.
fn policy_annotations(submission: &Submission) -> impl Iterator<Item = (&'static str, String)> {
    let recovery = submission.recovery();
    let codes = |codes: &[u8]| codes.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    let seconds = |seconds: Option<i64>| seconds.map(|seconds| seconds.to_string());
    let policy_annotations = [
        (labels::GANG, gang::annotation(submission).map(str::to_owned)),
        (
            labels::MAX_RESTARTS,
            recovery
                .as_ref()
                .map(|recovery| recovery.max_restarts_on_errors.to_string()),
        ),
        (
            labels::RECOVER_ON,
            recovery.as_ref().map(|recovery| codes(&recovery.recover_on_exit_codes)),
        ),
        (labels::MAX_DURATION, seconds(submission.max_duration())),
        (labels::PROVISION_TIMEOUT, seconds(submission.provision_timeout())),
        (labels::TTL_AFTER_FINISHED, seconds(submission.ttl_after_finished())),
    ];
    policy_annotations
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
}

/// A place in the memory of the machine for what processes share, unless the task mounts something there itself:
/// containers have 64 MiB by default, which is too little for the workers of a data loader.
fn add_shared_memory(volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    if mounts
        .iter()
        .all(|mount| mount.mount_path.trim_end_matches('/') != SHARED_MEMORY_DIR)
    {
        volumes.push(Volume {
            name: SHARED_MEMORY_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        });
        mounts.push(VolumeMount {
            name: SHARED_MEMORY_VOLUME.to_owned(),
            mount_path: SHARED_MEMORY_DIR.to_owned(),
            ..VolumeMount::default()
        });
    }
}

fn pod(submission: &Submission, rank: u32) -> PodSpec {
    let (mut volumes, mut mounts) = claims(submission);
    add_shared_memory(&mut volumes, &mut mounts);
    let program = program::program(
        &submission.definition,
        &submission.files,
        submission.pods.helper.as_ref(),
    );
    files::add_volumes(
        &submission.definition,
        &submission.files,
        &submission.files_owner,
        program.as_ref(),
        &mut volumes,
        &mut mounts,
    );
    let args = arguments(submission, || {
        volumes.push(script_volume(submission));
        mounts.push(VolumeMount {
            name: SCRIPT_VOLUME.to_owned(),
            mount_path: SCRIPT_DIR.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    });
    let resources = resources(&submission.definition.resources, submission.pods.default_requests);
    let security_context = security::container_security_context(submission.pods.security);
    let init_container = program
        .as_ref()
        .and_then(|program| program::init_container(program, resources.as_ref(), security_context.clone()));
    let service_account = submission.service_account().map(str::to_owned);
    let mut pod = PodSpec {
        init_containers: init_container.map(|container| vec![container]),
        containers: vec![Container {
            name: labels::CONTAINER.to_owned(),
            image: Some(image(submission)),
            command: Some(vec!["/bin/bash".to_owned(), "-c".to_owned()]),
            args: Some(args),
            env: Some(environment::variables(submission, rank)),
            env_from: environment::sources(submission),
            resources,
            volume_mounts: (!mounts.is_empty()).then_some(mounts),
            security_context,
            ..Container::default()
        }],
        security_context: security::pod_security_context(submission.pods.security),
        image_pull_secrets: secrets::image_pull_secrets(submission),
        // A token grants access to the Kubernetes API, so tasks get one only if the operator configures a service
        // account, or allows the one that the task chooses.
        automount_service_account_token: Some(service_account.is_some()),
        service_account_name: service_account,
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: hooks::grace_seconds(&submission.definition.hooks),
        // Set the deadline on the pod: the Job controller would delete the pod, and its log with it. In a gang it
        // counts from when the nodes begin, and is set then.
        active_deadline_seconds: submission
            .max_duration()
            .filter(|_| submission.definition.num_nodes == 1),
        // The variables of all Services in the namespace would add to the user's own, and may exceed the size limit.
        enable_service_links: Some(false),
        volumes: (!volumes.is_empty()).then_some(volumes),
        ..PodSpec::default()
    };
    if submission.definition.num_nodes > 1 {
        gang::configure_pod(&mut pod, submission, rank);
    }
    node_selection::configure_pod(&mut pod, submission);
    if submission.queue().is_none() {
        pod.priority_class_name = submission.definition.resources.priority_class.clone();
    }
    pod
}

/// The arguments of the container's bash: the program of process 1, and how it starts the script. Calls `mount` if they
/// refer to the volume with long scripts.
fn arguments(submission: &Submission, mount: impl FnOnce()) -> Vec<String> {
    let definition = &submission.definition;
    let hooks = hooks::hooks_script(definition);
    // Process 1 passes its variables on to the hooks.
    let begin = [
        outputs::begin(definition),
        fetch::forget(&submission.files).to_owned(),
        hooks.unwrap_or_default(),
    ];
    let end = [outputs::end(definition), &unkept::end(definition)];
    let init = format!(
        "{}{}",
        unkept::begin(definition),
        init_script(&begin.concat(), &end.concat())
    );
    let script = submission.script();
    if matches!(script, Script::File(_)) || hooks::are_files(definition) {
        mount();
    }
    let from = match script {
        Script::Argument(text) => vec!["-c".to_owned(), escape(&text)],
        Script::File(_) => vec![format!("{SCRIPT_DIR}/{SCRIPT_KEY}")],
    };
    [escape(&init), "k8s-cli".to_owned()].into_iter().chain(from).collect()
}

fn image(submission: &Submission) -> String {
    let wanted = submission.definition.resources.image.as_ref();
    match (wanted, &submission.definition.registry_login) {
        // As in SkyPilot, an image without a registry is in that of the login, and not in Docker Hub.
        (Some(image), Some(login)) if !has_registry(image) => format!("{}/{image}", login.server.reveal()),
        (Some(image), _) => image.clone(),
        (None, _) => {
            let default = submission.pods.default_image.clone();
            default.unwrap_or_else(|| DEFAULT_IMAGE.to_owned())
        }
    }
}

/// Whether an image reference names a registry: its first part is a host
/// (<https://pkg.go.dev/github.com/distribution/reference>).
fn has_registry(image: &str) -> bool {
    let host = image.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost")
}

/// Requests equal limits, except that disk has no limit, as in SkyPilot. GPUs are given as limits only, because
/// Kubernetes copies those to the requests.
fn resources(wanted: &Resources, defaults: DefaultRequests) -> Option<ResourceRequirements> {
    let mut requests = BTreeMap::new();
    for (name, amount) in [("cpu", &wanted.cpus), ("memory", &wanted.memory)] {
        if let Some(amount) = amount {
            requests.insert(name.to_owned(), Quantity(amount.to_string()));
        }
    }
    let mut limits = requests.clone();
    // A default guarantees something, and does not keep a task from using more.
    for (name, amount) in default_requests(wanted, defaults) {
        requests.entry(name.to_owned()).or_insert(Quantity(amount));
    }
    if let Some(accelerators) = &wanted.accelerators {
        let name = resource_name(accelerators.vendor());
        limits.insert(name.to_owned(), Quantity(accelerators.count.to_string()));
    }
    if let Some(disk) = &wanted.disk {
        requests.insert("ephemeral-storage".to_owned(), Quantity(disk.to_string()));
    }
    let some = |map: BTreeMap<_, _>| (!map.is_empty()).then_some(map);
    (!limits.is_empty() || !requests.is_empty()).then(|| ResourceRequirements {
        requests: some(requests),
        limits: some(limits),
        claims: None,
    })
}

/// The CPUs and memory that a task requests if it does not set them.
fn default_requests(wanted: &Resources, defaults: DefaultRequests) -> Vec<(&'static str, String)> {
    match (defaults, wanted.gpus(), &wanted.cpus) {
        (DefaultRequests::None, ..) => Vec::new(),
        (DefaultRequests::SkyPilot, 0, None) => vec![("cpu", "2".to_owned()), ("memory", "2Gi".to_owned())],
        (DefaultRequests::SkyPilot, 0, Some(cpus)) => {
            let memory = task::Quantity::parse_cpus("1").and_then(|factor| factor.gibibytes_times(cpus));
            memory
                .map(|memory| ("memory", memory.to_string()))
                .into_iter()
                .collect()
        }
        (DefaultRequests::SkyPilot, gpus, _) => {
            vec![("cpu", (4 * gpus).to_string()), ("memory", format!("{}Gi", 16 * gpus))]
        }
    }
}

/// Creates one volume per PersistentVolumeClaim even if it is mounted several times: Kubernetes rejects duplicate
/// names.
fn claims(submission: &Submission) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut names: HashMap<&str, String> = HashMap::new();
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    for (mount, claim) in submission.definition.volumes.iter().zip(&submission.claims) {
        let next = format!("volume-{}", volumes.len());
        let (name, sub_path) = match (&mount.source, claim) {
            (VolumeSource::Ephemeral { ephemeral }, _) => {
                volumes.push(ephemeral_volume(next.clone(), ephemeral));
                (next, None)
            }
            (VolumeSource::Named { sub_path, .. }, Some(claim)) => {
                let name = names.entry(claim).or_insert_with(|| {
                    volumes.push(claim_volume(next.clone(), claim));
                    next
                });
                (name.clone(), sub_path.clone())
            }
            (VolumeSource::Named { .. }, None) => continue,
        };
        mounts.push(VolumeMount {
            name,
            mount_path: mount.path.clone(),
            sub_path,
            ..VolumeMount::default()
        });
    }
    (volumes, mounts)
}

fn claim_volume(name: String, claim: &str) -> Volume {
    Volume {
        name,
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

/// A volume that Kubernetes creates with each pod, and deletes with it
/// (<https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes>).
fn ephemeral_volume(name: String, volume: &EphemeralVolume) -> Volume {
    let labels = (!volume.labels.is_empty()).then(|| volume.labels.clone());
    let storage = BTreeMap::from([("storage".to_owned(), Quantity(volume.size.to_string()))]);
    let template = PersistentVolumeClaimTemplate {
        metadata: labels.map(|labels| ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: PersistentVolumeClaimSpec {
            access_modes: Some(vec![volume.access_mode.to_owned()]),
            storage_class_name: volume.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(storage),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        },
    };
    Volume {
        name,
        ephemeral: Some(EphemeralVolumeSource {
            volume_claim_template: Some(template),
        }),
        ..Volume::default()
    }
}

fn script_volume(submission: &Submission) -> Volume {
    Volume {
        name: SCRIPT_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: submission.owner_name(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}
