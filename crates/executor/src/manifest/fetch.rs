//! What a pod needs to fetch the files of its task from the server, besides the program: the address and the token.

use crate::delivery::{ADDRESS_FILE, Delivery, FetchFrom, FetchedFiles};
use crate::kubernetes::{EnvVar, EnvVarSource, HostPathVolumeSource, PodSpec, SecretKeySelector, Volume, VolumeMount};

/// The directory with the address of the server of this machine.
const ADDRESS_DIR: &str = "/etc/k8s-cli-server";
const ADDRESS_VOLUME: &str = "k8s-cli-server";

/// The key of the token in its Secret.
pub(super) const TOKEN_KEY: &str = "token";

/// The number of the attempt, so that the outputs of an earlier one do not replace those of a later one.
pub(super) const ATTEMPT_VARIABLE: &str = "K8S_CLI_FILES_ATTEMPT";

/// Fetches the file set `$1` to the directory `$2`: everything, or the file `$3`.
///
/// The program says itself why it failed, unless it cannot be started.
pub(super) const FETCH: &str = r#"k8s_cli_unpack() {
  local code
  /etc/k8s-cli-helper/k8s-cli-helper fetch --report /dev/termination-log ${3:+--file "$3"} -- "$1" "$2"
  code=$?
  case $code in
    0) return ;;
    12[67]) echo "cannot fetch the files of the task: the helper program cannot be started; see the log of the node" >>/dev/termination-log ;;
  esac
  exit 1
}
"#;

/// The line that removes the token, before the task's own commands run.
pub(super) fn forget(delivery: &Delivery) -> &'static str {
    match delivery {
        Delivery::Fetched(_) => {
            "unset K8S_CLI_FILES_TOKEN K8S_CLI_FILES_URL K8S_CLI_FILES_URL_FILE K8S_CLI_FILES_ATTEMPT\n"
        }
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

/// Moves a pod to another attempt.
pub(super) fn move_to_attempt(pod: &mut PodSpec, attempt: u32) {
    let variables = pod
        .containers
        .iter_mut()
        .flat_map(|container| container.env.iter_mut().flatten());
    for variable in variables.filter(|variable| variable.name == ATTEMPT_VARIABLE) {
        variable.value = Some(attempt.to_string());
    }
}

/// Adds the volume with the address of the server of this machine, and mounts it.
pub(super) fn add_volumes(files: &FetchedFiles, volumes: &mut Vec<Volume>, mounts: &mut Vec<VolumeMount>) {
    let FetchFrom::ThisMachine { address_dir, .. } = &files.from else {
        return;
    };
    mounts.push(VolumeMount {
        name: ADDRESS_VOLUME.to_owned(),
        mount_path: ADDRESS_DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    volumes.push(Volume {
        name: ADDRESS_VOLUME.to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: address_dir.to_string_lossy().into_owned(),
            type_: None,
        }),
        ..Volume::default()
    });
}
