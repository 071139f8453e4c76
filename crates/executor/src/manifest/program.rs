//! The program of ours in a pod, which fetches and copies what a task needs.

use task::TaskDefinition;

use crate::delivery::Delivery;
use crate::kubernetes::{
    Container, EmptyDirVolumeSource, HostPathVolumeSource, ResourceRequirements, SecurityContext, Volume, VolumeMount,
};
use crate::settings::HelperProgram;

/// The directory with the program, and its name in it: that of `crates/helper`.
const PROGRAM_DIR: &str = "/etc/k8s-cli-helper";
const PROGRAM: &str = "k8s-cli-helper";
const PROGRAM_VOLUME: &str = "k8s-cli-helper";

/// The program that the nodes of a task need, if they do; `helper` is that of the server.
pub(super) fn program(
    definition: &TaskDefinition,
    delivery: &Delivery,
    helper: Option<&HelperProgram>,
) -> Option<HelperProgram> {
    let for_files = delivery.fetched().map(|files| files.from.program());
    let for_copies = || helper.filter(|_| !definition.copies.is_empty()).cloned();
    for_files.or_else(for_copies)
}

/// Adds the volume with the program, and mounts it.
pub(super) fn add_volume(program: &HelperProgram, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    let mut volume = Volume {
        name: PROGRAM_VOLUME.to_owned(),
        ..Volume::default()
    };
    let mount_path = match program {
        HelperProgram::Image(_) => {
            volume.empty_dir = Some(EmptyDirVolumeSource::default());
            PROGRAM_DIR.to_owned()
        }
        // Under the name by which it is this program.
        HelperProgram::Executable(path) => {
            volume.host_path = Some(HostPathVolumeSource {
                path: path.to_string_lossy().into_owned(),
                type_: None,
            });
            format!("{PROGRAM_DIR}/{PROGRAM}")
        }
    };
    volumes.push(volume);
    mounts.push(VolumeMount {
        name: PROGRAM_VOLUME.to_owned(),
        mount_path,
        read_only: Some(true),
        ..VolumeMount::default()
    });
}

/// The container that copies the program out of the operator's image, before the task's container starts. It asks for what
/// the latter asks for, without devices: the larger of both counts, so the pod asks for nothing more.
pub(super) fn init_container(
    program: &HelperProgram,
    resources: Option<&ResourceRequirements>,
    security_context: Option<SecurityContext>,
) -> Option<Container> {
    let HelperProgram::Image(image) = program else {
        return None;
    };
    Some(Container {
        name: PROGRAM_VOLUME.to_owned(),
        image: Some(image.clone()),
        command: Some(vec![
            format!("/{PROGRAM}"),
            "install".to_owned(),
            PROGRAM_DIR.to_owned(),
        ]),
        resources: resources.map(without_devices),
        security_context,
        volume_mounts: Some(vec![VolumeMount {
            name: PROGRAM_VOLUME.to_owned(),
            mount_path: PROGRAM_DIR.to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    })
}

fn without_devices(resources: &ResourceRequirements) -> ResourceRequirements {
    let mut kept = resources.clone();
    for amounts in [&mut kept.requests, &mut kept.limits].into_iter().flatten() {
        amounts.retain(|name, _| matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage"));
    }
    kept
}
