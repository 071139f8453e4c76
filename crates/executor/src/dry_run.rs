//! Shows what a submit would create, without creating it.

use serde::Serialize;
use serde_json::Value;

use crate::cache::Cache;
use crate::delivery;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::kubernetes::ApiClient;
use crate::manifest::{self, Submission};
use crate::placement::Inventory;
use crate::settings::Settings;
use crate::submit::{SubmitRequest, check_pod_fields, explain_rejection, place, resolve_claims, submission};

/// The most bytes of Jobs that a dry run returns. The Jobs differ only in their rank.
pub(crate) const MAX_DRY_RUN_BYTES: usize = 2 * 1024 * 1024;

/// The objects that a submit would create.
#[derive(Debug)]
pub struct DryRun {
    /// The manifests, without some of the Jobs if there are very many.
    pub objects: Vec<Value>,
    /// How many Jobs were left out.
    pub left_out: u32,
    /// Warnings about the cluster nodes that the task may use.
    pub warnings: Vec<String>,
}

/// Builds the objects that a submit would create and validates them on the Kubernetes API, without creating anything.
pub(crate) async fn dry_run(
    client: &ApiClient,
    cache: &Cache,
    inventory: &Inventory,
    request: SubmitRequest,
    settings: &Settings,
) -> Result<DryRun, Error> {
    let claims = resolve_claims(client, cache, &request.user, &request.definition, settings).await?;
    let fingerprint = Fingerprint::of(&request.definition)?;
    check_pod_fields(&request.definition, settings)?;
    let placement = place(client, inventory, &request.definition, &claims, settings).await?;
    let warnings = placement.warnings.clone();
    let files = delivery::resolve(settings, &request.user, &request.definition).await?;
    let placed = (claims, placement, files);
    let submission = submission(&request, settings, placed, fingerprint, client.now());
    let checked = check(client, &submission, MAX_DRY_RUN_BYTES).await?;
    Ok(DryRun { warnings, ..checked })
}

/// Validates the first Job of a submission, and returns its objects, with as many Jobs as fit in `max_bytes`, but at
/// least one.
pub(crate) async fn check(client: &ApiClient, submission: &Submission, max_bytes: usize) -> Result<DryRun, Error> {
    const ACTION: &str = "validate the Job";
    // Validating one Job is enough: they differ only in their rank.
    let first = manifest::job(submission, 0, None);
    let validated = client.validate(ACTION, &first).await;
    validated.map_err(|error| explain_rejection(error, &submission.definition))?;
    let bytes = serde_json::to_vec(&first)
        .map_err(|source| Error::Encoding { source })?
        .len();
    let num_nodes = submission.definition.num_nodes;
    let shown = u32::try_from(max_bytes / bytes).unwrap_or(u32::MAX).clamp(1, num_nodes);
    let mut objects = Vec::new();
    if submission.needs_owner() {
        let owner = manifest::owner(submission, submission.created_at);
        objects.push(to_json(&owner)?);
    }
    if let Some(environment) = manifest::environment(submission, None) {
        objects.push(to_json(&environment)?);
    }
    for secret in manifest::secrets(submission, None) {
        objects.push(to_json(&manifest::redacted(secret))?);
    }
    if submission.definition.num_nodes > 1 {
        objects.push(to_json(&manifest::service(submission, None))?);
    }
    if let Some(service) = manifest::port_service(submission, None) {
        objects.push(to_json(&service)?);
    }
    if let Some(ingress) = manifest::port_ingress(submission, None) {
        objects.push(to_json(&ingress)?);
    }
    for rank in 0..shown {
        objects.push(to_json(&manifest::job(submission, rank, None))?);
    }
    Ok(DryRun {
        objects,
        left_out: num_nodes - shown,
        warnings: Vec::new(),
    })
}

fn to_json(object: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Encoding { source })
}
