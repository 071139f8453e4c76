//! The environment variables of a container: the user's and ours.

use std::collections::BTreeMap;

use super::escape::escape;
use super::fetch;
use super::script::{MASTER_PORT, MAX_COPIED_BYTES};
use super::secrets;
use super::submission::Submission;
use super::working_dir::LINKS_HOME;
use crate::kubernetes::{
    ConfigMap, ConfigMapEnvSource, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, OwnerReference,
};
use crate::labels;

const PYTHON_UNBUFFERED: &str = "PYTHONUNBUFFERED";

/// The ConfigMap with the user's variables, if they are too large to copy into each Job of a gang.
#[must_use]
pub fn environment(submission: &Submission, owner: Option<&OwnerReference>) -> Option<ConfigMap> {
    if !is_in_config_map(submission) {
        return None;
    }
    let mut metadata = submission.metadata(environment_name(submission));
    metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
    // A ConfigMap with this label would be taken for the owner of the task.
    metadata.labels.get_or_insert_default().remove(labels::TASK);
    Some(ConfigMap {
        metadata,
        data: Some(submission.definition.envs.iter().cloned().collect::<BTreeMap<_, _>>()),
        // The kubelet does not watch immutable ConfigMaps.
        immutable: Some(true),
        ..ConfigMap::default()
    })
}

/// The references to the variables that the Jobs don't contain: that ConfigMap, and the Secret.
pub(super) fn sources(submission: &Submission) -> Option<Vec<EnvFromSource>> {
    let config_map = is_in_config_map(submission).then(|| EnvFromSource {
        config_map_ref: Some(ConfigMapEnvSource {
            name: environment_name(submission),
            optional: Some(false),
        }),
        ..EnvFromSource::default()
    });
    let sources = config_map.into_iter().chain(secrets::variables_source(submission));
    let sources: Vec<EnvFromSource> = sources.collect();
    (!sources.is_empty()).then_some(sources)
}

fn is_in_config_map(submission: &Submission) -> bool {
    let definition = &submission.definition;
    definition.num_nodes > 1 && definition.variables_bytes() > MAX_COPIED_BYTES
}

fn environment_name(submission: &Submission) -> String {
    format!("task-{}-env", submission.id)
}

/// The user's variables, then ours, which take precedence. The addresses of several nodes are not known yet; `script`
/// exports them later.
///
/// The names are SkyPilot's: <https://docs.skypilot.co/en/latest/running-jobs/environment-variables.html>.
pub(super) fn variables(submission: &Submission, rank: u32) -> Vec<EnvVar> {
    let definition = &submission.definition;
    let (rank, nodes, gpus) = (
        rank.to_string(),
        definition.num_nodes.to_string(),
        definition.resources.gpus().to_string(),
    );
    let is_set = |wanted: &str| definition.sets_variable(wanted);
    let mut ours = vec![
        variable("NODE_RANK", rank.clone()),
        variable("NUM_NODES", nodes.clone()),
        variable("SKYPILOT_NODE_RANK", rank.clone()),
        variable("SKYPILOT_NUM_NODES", nodes),
        variable("SKYPILOT_NUM_GPUS_PER_NODE", gpus.clone()),
        variable("SKYPILOT_TASK_ID", submission.skypilot_task_id()),
        variable("SKYPILOT_SETUP_NODE_RANK", rank),
        variable("SKYPILOT_SETUP_NUM_GPUS_PER_NODE", gpus),
    ];
    // There are no clusters that outlive a task, so that the task itself is the cluster.
    let names = [
        variable("SKYPILOT_CLUSTER_NAME", submission.name.to_string()),
        variable("SKYPILOT_USER", escape(submission.user.as_str())),
    ];
    ours.extend(names.into_iter().filter(|ours| !is_set(&ours.name)));
    if definition.has_working_dir() && !submission.pods.shares_home {
        ours.push(variable(LINKS_HOME, "1".to_owned()));
    }
    if let Some(files) = submission.files.fetched() {
        ours.extend(fetch::variables(files, secrets::files_name(submission)));
        ours.push(variable(fetch::ATTEMPT_VARIABLE, "1".to_owned()));
    }
    let task_ids = submission.group.as_ref().map(|group| &*group.task_ids);
    ours.extend(
        task_ids
            .filter(|ids| !ids.is_empty())
            .map(|ids| variable("SKYPILOT_TASK_IDS", ids.to_owned())),
    );
    if definition.num_nodes == 1 {
        ours.extend(["SKYPILOT_NODE_IPS", "SKYPILOT_SETUP_NODE_IPS"].map(pod_ip_variable));
        // The script exports them on several nodes. `RANK` and `WORLD_SIZE` are left out: with one node, some libraries
        // take them for a sign that they were started by `torchrun`.
        let rendezvous = [
            pod_ip_variable("MASTER_ADDR"),
            variable("MASTER_PORT", MASTER_PORT.to_string()),
        ];
        ours.extend(rendezvous.into_iter().filter(|ours| !is_set(&ours.name)));
    }
    let copied = if is_in_config_map(submission) {
        &[]
    } else {
        definition.envs.as_slice()
    };
    let users = copied
        .iter()
        .filter(|(name, _)| ours.iter().all(|our| our.name != *name))
        .map(|(name, text)| variable(name, escape(text)));
    // Without this, Python buffers 8 KiB of output, and the log lags behind.
    let python = (!is_set(PYTHON_UNBUFFERED)).then(|| variable(PYTHON_UNBUFFERED, "1".to_owned()));
    let users: Vec<EnvVar> = python.into_iter().chain(users).collect();
    users.into_iter().chain(ours).collect()
}

fn variable(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    }
}

fn pod_ip_variable(name: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.podIP".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
    }
}
