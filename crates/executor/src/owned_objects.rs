//! Creates what the owner of a task owns: its Jobs, Secrets, Services, Ingress, and the ConfigMap of its variables.

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::cache::Job;
use crate::error::Error;
use crate::kubernetes::{ApiClient, NamespacedObject, ObjectRef, OwnerReference};
use crate::manifest::{self, Submission};

/// How many Jobs of one task are created concurrently: as many as the kube-apiserver handles without queueing, and few
/// enough that one large task does not starve the others.
const CONCURRENT_CREATES: usize = 32;

/// Part of the warning that the kube-apiserver sends for a Job whose pods may violate a Pod Security Standard.
const VIOLATES_POD_SECURITY: &str = "would violate PodSecurity";

/// The namespace label that names the enforced Pod Security Standard.
const ENFORCED: &str = "pod-security.kubernetes.io/enforce";

/// The reference to the owner of a task, which has this UID.
pub(crate) fn owner_reference(submission: &Submission, owner_uid: &str) -> OwnerReference {
    ObjectRef::new(&submission.owner_name(), owner_uid).as_owner()
}

/// Creates everything that the owner with this uid owns, the Jobs concurrently. If the owner was deleted meanwhile,
/// they are garbage-collected.
pub(crate) async fn create_owned_objects(
    client: &ApiClient,
    submission: &Submission,
    owner_uid: &str,
    warnings: &mut Vec<String>,
) -> Result<Vec<Job>, Error> {
    let reference = owner_reference(submission, owner_uid);
    let jobs = stream::iter(0..submission.definition.num_nodes)
        .map(|rank| create_job(client, submission, rank, &reference))
        .buffer_unordered(CONCURRENT_CREATES)
        .try_collect::<Vec<_>>();
    // A pod whose Secret is missing is retried by the kubelet only after seconds, so these come first.
    create_secrets(client, submission, &reference).await?;
    let (jobs, (), (), no_service, no_ingress) = tokio::try_join!(
        jobs,
        create_environment(client, submission, &reference),
        create_service(client, submission, &reference),
        create_for_ports(client, manifest::port_service(submission, Some(&reference))),
        create_for_ports(client, manifest::port_ingress(submission, Some(&reference)))
    )?;
    warnings.extend(no_service.into_iter().chain(no_ingress));
    let mut made = Vec::new();
    for (job, warned) in jobs {
        made.extend(job);
        warnings.extend(warned);
    }
    // All Jobs are alike, so each of them triggers the same warnings.
    warnings.sort_unstable();
    warnings.dedup();
    check_pod_security(client, warnings).await?;
    Ok(made)
}

/// Creates the ConfigMap with the environment variables, if they are too large to copy into every Job.
async fn create_environment(client: &ApiClient, submission: &Submission, owner: &OwnerReference) -> Result<(), Error> {
    let Some(environment) = manifest::environment(submission, Some(owner)) else {
        return Ok(());
    };
    let created = client
        .create(
            "create the ConfigMap of the environment variables",
            &environment,
            &mut Vec::new(),
        )
        .await?;
    created.map(drop).ok_or(Error::NoFreeId { tries: 1 })
}

/// Creates the Secrets of the task, if it has any.
async fn create_secrets(client: &ApiClient, submission: &Submission, owner: &OwnerReference) -> Result<(), Error> {
    for secret in manifest::secrets(submission, Some(owner)) {
        match client.create_only("create a Secret of the task", &secret).await {
            // An earlier call whose response was lost has created it: no other try has this name.
            Err(error) if error.is_already_exists() => {}
            created => created?,
        }
    }
    Ok(())
}

/// Creates the Service for host names. Host names are optional: if Kubernetes rejects the Service (RBAC, quota,
/// policy), the task runs without them.
async fn create_service(client: &ApiClient, submission: &Submission, owner: &OwnerReference) -> Result<(), Error> {
    if submission.definition.num_nodes == 1 {
        return Ok(());
    }
    let service = manifest::service(submission, Some(owner));
    match client
        .create("create the Service of the task", &service, &mut Vec::new())
        .await
    {
        Err(error) if !error.is_transient() => {
            tracing::warn!(task_id = %submission.id, %error, "failed to create a Service; the nodes of the task have no host names");
            Ok(())
        }
        made => made.map(drop),
    }
}

/// Creates an object in front of the ports of the task, if it needs one. The permission is optional: without it, the task
/// runs, and the warning says why nobody reaches its ports.
async fn create_for_ports<K: NamespacedObject + Serialize>(
    client: &ApiClient,
    object: Option<K>,
) -> Result<Option<String>, Error> {
    let Some(object) = object else {
        return Ok(None);
    };
    match client
        .create("expose the ports of the task", &object, &mut Vec::new())
        .await
    {
        Err(error) if error.is_forbidden() => Ok(Some(error.to_string())),
        created => created?.map(|_| None).ok_or(Error::NoFreeId { tries: 1 }),
    }
}

async fn create_job(
    client: &ApiClient,
    submission: &Submission,
    rank: u32,
    owner: &OwnerReference,
) -> Result<(Option<Job>, Vec<String>), Error> {
    let manifest = manifest::job(submission, rank, Some(owner));
    let mut warnings = Vec::new();
    let job = client
        .create("create a Job of the task", &manifest, &mut warnings)
        .await?
        .ok_or(Error::NoFreeId { tries: 1 })?;
    // Keep only the reduced Job: a thousand full ones with their scripts would take too much memory.
    Ok((Job::from_resource(job).ok(), warnings))
}

/// Fails if the namespace enforces the Pod Security Standard that a warning mentions. Kubernetes accepts such a Job
/// with only a warning, and its pods would stay pending forever.
pub(crate) async fn check_pod_security(client: &ApiClient, warnings: &[String]) -> Result<(), Error> {
    let Some(warning) = warnings.iter().find(|warning| warning.contains(VIOLATES_POD_SECURITY)) else {
        return Ok(());
    };
    // Without permission to read the namespace, it is unknown whether the standard is enforced.
    let labels = client.namespace_labels().await?.unwrap_or_default();
    match labels.get(ENFORCED) {
        Some(level) if warning.contains(&format!("\"{level}:")) => Err(Error::PodSecurity {
            namespace: client.namespace().to_owned(),
            level: level.clone(),
            warning: warning.clone(),
        }),
        _ => Ok(()),
    }
}
