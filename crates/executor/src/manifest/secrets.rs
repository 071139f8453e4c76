//! The Secrets of a task: its secret variables, the login to its registry, and the token for its files.

use std::collections::BTreeMap;

use serde_json::json;
use task::definition::{REDACTED, RegistryLogin};

use super::fetch;
use super::submission::Submission;
use crate::kubernetes::{EnvFromSource, LocalObjectReference, OwnerReference, Secret, SecretEnvSource};
use crate::tokens;

/// Kubernetes' type and key of a registry login
/// (<https://kubernetes.io/docs/concepts/configuration/secret/#docker-config-secrets>).
const REGISTRY_TYPE: &str = "kubernetes.io/dockerconfigjson";
const REGISTRY_KEY: &str = ".dockerconfigjson";

/// How much of the hash of a try is in the names.
const TRY_LENGTH: usize = 16;

/// The Secrets of a task, which its owner owns.
#[must_use]
pub fn secrets(submission: &Submission, owner: Option<&OwnerReference>) -> Vec<Secret> {
    let definition = &submission.definition;
    let variables = has_variables(submission).then(|| {
        let texts = definition.secrets.iter();
        let texts = texts.map(|(name, secret)| (name.clone(), secret.reveal().to_owned()));
        secret(submission, owner, variables_name(submission), "Opaque", texts.collect())
    });
    let registry = definition.registry_login.as_ref().map(|login| {
        let texts = BTreeMap::from([(REGISTRY_KEY.to_owned(), docker_config(login))]);
        secret(submission, owner, registry_name(submission), REGISTRY_TYPE, texts)
    });
    let token = submission.files.fetched().map(|fetched| {
        let texts = BTreeMap::from([(fetch::TOKEN_KEY.to_owned(), fetched.secret.token(&submission.id))]);
        secret(submission, owner, files_name(submission), "Opaque", texts)
    });
    variables.into_iter().chain(registry).chain(token).collect()
}

/// A Secret as it may be shown.
#[must_use]
pub fn redacted(mut secret: Secret) -> Secret {
    for text in secret.string_data.iter_mut().flat_map(BTreeMap::values_mut) {
        REDACTED.clone_into(text);
    }
    secret
}

/// The source of the secret variables. The variables of the container itself take precedence.
pub(super) fn variables_source(submission: &Submission) -> Option<EnvFromSource> {
    has_variables(submission).then(|| EnvFromSource {
        secret_ref: Some(SecretEnvSource {
            name: variables_name(submission),
            optional: Some(false),
        }),
        ..EnvFromSource::default()
    })
}

/// The reference to the login for the kubelet, which pulls the image.
pub(super) fn image_pull_secrets(submission: &Submission) -> Option<Vec<LocalObjectReference>> {
    submission.definition.registry_login.as_ref().map(|_| {
        vec![LocalObjectReference {
            name: registry_name(submission),
        }]
    })
}

/// The name of the Secret with the token for the files. Apart from the variables, which the task sees.
pub(super) fn files_name(submission: &Submission) -> String {
    object_name(submission, "files")
}

fn has_variables(submission: &Submission) -> bool {
    !submission.definition.secrets.is_empty()
}

fn variables_name(submission: &Submission) -> String {
    object_name(submission, "secrets")
}

fn registry_name(submission: &Submission) -> String {
    object_name(submission, "registry")
}

/// A name that no other try has, not even one with the same `Idempotency-Key`: a Secret with it is from this try, which
/// can be known without the permission to read Secrets.
fn object_name(submission: &Submission, what: &str) -> String {
    let try_hash = tokens::hash(&[submission.try_token.as_bytes()]);
    format!("task-{}-{what}-{}", submission.id, &try_hash[..TRY_LENGTH])
}

fn secret(
    submission: &Submission,
    owner: Option<&OwnerReference>,
    name: String,
    type_: &str,
    texts: BTreeMap<String, String>,
) -> Secret {
    let mut metadata = submission.metadata(name);
    metadata.owner_references = owner.map(|owner| vec![owner.clone()]);
    Secret {
        metadata,
        type_: Some(type_.to_owned()),
        string_data: Some(texts),
        // The kubelet does not watch immutable Secrets.
        immutable: Some(true),
        ..Secret::default()
    }
}

fn docker_config(login: &RegistryLogin) -> String {
    let auth = json!({"username": login.username.reveal(), "password": login.password.reveal()});
    json!({"auths": {login.server.reveal(): auth}}).to_string()
}
