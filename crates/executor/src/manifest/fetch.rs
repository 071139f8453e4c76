//! What a pod needs to fetch the files of its task from the server: the program, the address, and the token.

use crate::delivery::{ADDRESS_FILE, Delivery, FetchFrom, FetchedFiles};
use crate::kubernetes::{
    Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, HostPathVolumeSource, ResourceRequirements,
    SecretKeySelector, SecurityContext, Volume, VolumeMount,
};

/// The directory with the program, and its name in it: that of `crates/helper`.
const PROGRAM_DIR: &str = "/etc/k8s-cli-helper";
const PROGRAM: &str = "k8s-cli-helper";
const PROGRAM_VOLUME: &str = "k8s-cli-helper";

/// The directory with the address of the server of this machine.
const ADDRESS_DIR: &str = "/etc/k8s-cli-server";
const ADDRESS_VOLUME: &str = "k8s-cli-server";

/// The key of the token in its Secret.
pub(super) const TOKEN_KEY: &str = "token";

/// Fetches the file set `$1` to the directory `$2`: everything, or the file `$3`.
///
/// The program says itself why it failed, unless it cannot be started.
pub(super) const FETCH: &str = r#"k8s_cli_unpack() {
  local code
  /etc/k8s-cli-helper/k8s-cli-helper fetch --report /dev/termination-log ${3:+--file "$3"} -- "$1" "$2"
  code=$?
  case $code in
    0) return ;;
    12[67]) echo "cannot fetch the files of the task: the program for it cannot be started; see the log of the node" >>/dev/termination-log ;;
  esac
  exit 1
}
"#;

/// The line that removes the token, before the task's own commands run.
pub(super) fn forget(delivery: &Delivery) -> &'static str {
    match delivery {
        Delivery::Fetched(_) => "unset K8S_CLI_FILES_TOKEN K8S_CLI_FILES_URL K8S_CLI_FILES_URL_FILE\n",
        Delivery::Packed(_) => "",
    }
}

/// The variables for the program. The token is in the Secret with this name.
pub(super) fn variables(files: &FetchedFiles, secret_name: String) -> [EnvVar; 2] {
    let (name, value) = match &files.from {
        FetchFrom::Cluster { url, .. } => ("K8S_CLI_FILES_URL", url.clone()),
        FetchFrom::ThisMachine { .. } => ("K8S_CLI_FILES_URL_FILE", format!("{ADDRESS_DIR}/{ADDRESS_FILE}")),
    };
    let address = EnvVar {
        name: name.to_owned(),
        // Kubernetes would replace `$(NAME)`.
        value: Some(value.replace('$', "$$")),
        value_from: None,
    };
    let token = EnvVar {
        name: "K8S_CLI_FILES_TOKEN".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret_name,
                key: TOKEN_KEY.to_owned(),
                optional: Some(false),
            }),
            ..EnvVarSource::default()
        }),
    };
    [address, token]
}

/// Adds the volumes with the program and the address, and mounts them.
pub(super) fn add_volumes(files: &FetchedFiles, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    let mut mount = |name: &str, path: String| {
        mounts.push(VolumeMount {
            name: name.to_owned(),
            mount_path: path,
            read_only: Some(true),
            ..VolumeMount::default()
        });
    };
    match &files.from {
        FetchFrom::Cluster { .. } => {
            mount(PROGRAM_VOLUME, PROGRAM_DIR.to_owned());
            volumes.push(Volume {
                name: PROGRAM_VOLUME.to_owned(),
                empty_dir: Some(EmptyDirVolumeSource::default()),
                ..Volume::default()
            });
        }
        FetchFrom::ThisMachine { program, address_dir } => {
            // The server's own executable, under the name by which it is this program.
            mount(PROGRAM_VOLUME, format!("{PROGRAM_DIR}/{PROGRAM}"));
            mount(ADDRESS_VOLUME, ADDRESS_DIR.to_owned());
            for (name, path) in [(PROGRAM_VOLUME, program), (ADDRESS_VOLUME, address_dir)] {
                volumes.push(Volume {
                    name: name.to_owned(),
                    host_path: Some(HostPathVolumeSource {
                        path: path.to_string_lossy().into_owned(),
                        type_: None,
                    }),
                    ..Volume::default()
                });
            }
        }
    }
}

/// The container that copies the program out of the operator's image, before the task's container starts. It asks for what
/// the latter asks for, without devices: the larger of both counts, so the pod asks for nothing more.
pub(super) fn init_container(
    delivery: &Delivery,
    resources: Option<&ResourceRequirements>,
    security_context: Option<SecurityContext>,
) -> Option<Container> {
    let FetchFrom::Cluster { image, .. } = &delivery.fetched()?.from else {
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
