//! What only the pods of a gang have: gate files, a readiness probe, and anti-affinity.

use std::collections::BTreeMap;

use super::script::{GANG_DIR, NODE_IPS_FILE, RUN_FILE, SETUP_DONE, STATE_DIR};
use super::service::{host_name, service_name};
use super::submission::Submission;
use crate::kubernetes::{
    Affinity, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, ExecAction, LabelSelector,
    ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSpec, Probe, Volume, VolumeMount,
    WeightedPodAffinityTerm,
};
use crate::labels;

/// The volume with the gate files.
const GANG_VOLUME: &str = "k8s-cli-gang";

/// The volume in which a node records that its setup has ended.
const STATE_VOLUME: &str = "k8s-cli-state";

/// The weight of the preference for separate cluster nodes, out of 100.
const SPREAD_WEIGHT: i32 = 100;

/// The value of the gang annotation on the Jobs, or `None` for a task with one node.
pub(super) fn annotation(submission: &Submission) -> Option<&'static str> {
    match (submission.definition.num_nodes, &submission.definition.setup) {
        (1, _) => None,
        (_, None) => Some(labels::GANG_START),
        (_, Some(_)) => Some(labels::GANG_SETUP),
    }
}

/// Adds the parts to the pod of a gang.
pub(super) fn configure_pod(pod: &mut PodSpec, submission: &Submission, rank: u32) {
    pod.hostname = Some(host_name(rank));
    pod.subdomain = Some(service_name(submission));
    let volumes = pod.volumes.get_or_insert_default();
    volumes.push(Volume {
        name: GANG_VOLUME.to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(vec![
                annotation_file(NODE_IPS_FILE, labels::NODE_IPS),
                annotation_file(RUN_FILE, labels::RUN),
            ]),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    });
    let has_setup = submission.definition.setup.is_some();
    if has_setup {
        volumes.push(Volume {
            name: STATE_VOLUME.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        });
    }
    for container in &mut pod.containers {
        let mounts = container.volume_mounts.get_or_insert_default();
        mounts.push(VolumeMount {
            name: GANG_VOLUME.to_owned(),
            mount_path: GANG_DIR.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
        if has_setup {
            mounts.push(VolumeMount {
                name: STATE_VOLUME.to_owned(),
                mount_path: STATE_DIR.to_owned(),
                ..VolumeMount::default()
            });
            container.readiness_probe = Some(setup_probe());
        }
    }
    pod.affinity = Some(spread(submission));
}

/// Projects an annotation of the pod into a file, which the kubelet keeps up to date. The server opens a gate by
/// patching the annotation, so it needs no network connection to the pod.
fn annotation_file(path: &str, annotation: &str) -> DownwardAPIVolumeFile {
    DownwardAPIVolumeFile {
        path: path.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{annotation}']"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    }
}

/// Makes a node ready when its setup has ended. The server sees this in the pod's status, so the pod needs no network
/// connection to the server.
fn setup_probe() -> Probe {
    let command = ["/bin/bash", "-c", &format!("[ -e {SETUP_DONE} ]")];
    Probe {
        exec: Some(ExecAction {
            command: Some(command.map(str::to_owned).to_vec()),
        }),
        period_seconds: Some(1),
        failure_threshold: Some(1),
        ..Probe::default()
    }
}

/// Prefers separate cluster nodes: the nodes of a task use the same kind of resource, and would compete for it.
fn spread(submission: &Submission) -> Affinity {
    let task = BTreeMap::from([(labels::TASK_ID.to_owned(), submission.id.to_string())]);
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: SPREAD_WEIGHT,
                pod_affinity_term: PodAffinityTerm {
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    label_selector: Some(LabelSelector {
                        match_labels: Some(task),
                        ..LabelSelector::default()
                    }),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}
