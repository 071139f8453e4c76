//! DELETE, and evictions.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{self as meta, Status, StatusDetails, Time};

use super::body::read_body;
use super::query::{META, Query};
use super::representation::Representation;
use super::request::{Api, ResourceRequest};
use super::{read, responses};
use crate::controllers::{DeleteOptions, PropagationPolicy, delete_object};
use crate::field_errors::FieldErrors;
use crate::object::{Kind, Object};
use crate::resources::set_condition;
use crate::status_error::{self, StatusError};
use crate::store::{self, Durability, WriteMode};

/// Namespaces that kube-apiserver refuses to delete.
const PROTECTED_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Deletion options, from the body and the query.
struct DeleteRequest {
    options: DeleteOptions,
    /// Preconditions.
    uid: Option<String>,
    version: Option<String>,
    mode: WriteMode,
}

async fn parse_delete_request(kind: Kind, body: Body, query: &Query) -> Result<DeleteRequest, StatusError> {
    let bytes = read_body(body).await?;
    let sent: Option<meta::DeleteOptions> = if bytes.is_empty() {
        None
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| StatusError::bad_request(format!("invalid delete options: {error}")))?
    };
    let sent = sent.unwrap_or_default();
    let preconditions = sent.preconditions.unwrap_or_default();
    let propagation = sent
        .propagation_policy
        .or_else(|| query.get("propagationPolicy").map(str::to_owned));
    let propagation = match propagation.as_deref() {
        // The Job API keeps its original default for compatibility:
        // <https://github.com/kubernetes/kubernetes/blob/master/pkg/registry/batch/job/strategy.go>.
        None if kind == Kind::Job => PropagationPolicy::Orphan,
        None | Some("Background") => PropagationPolicy::Background,
        Some("Foreground") => PropagationPolicy::Foreground,
        Some("Orphan") => PropagationPolicy::Orphan,
        Some(other) => {
            let mut errors = FieldErrors::default();
            errors.unsupported(
                "propagationPolicy",
                other,
                &["Foreground", "Background", "Orphan", "nil"],
            );
            return Err(StatusError::invalid_option("DeleteOptions", META, &errors));
        }
    };
    let grace = match sent.grace_period_seconds {
        Some(seconds) => Some(seconds),
        None => query.number("gracePeriodSeconds")?,
    };
    let is_dry_run = sent.dry_run.is_some_and(|list| !list.is_empty());
    let mode = match query.write_mode("DeleteOptions")? {
        WriteMode::Commit if is_dry_run => WriteMode::DryRun,
        mode => mode,
    };
    Ok(DeleteRequest {
        options: DeleteOptions {
            grace: grace.map(|seconds| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)),
            propagation,
        },
        uid: preconditions.uid,
        version: preconditions.resource_version,
        mode,
    })
}

/// DELETE of one object.
pub(super) async fn delete(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let delete = parse_delete_request(request.target.kind, request.body, &request.query).await?;
    let target = request.target.clone();
    let mode = delete.mode;
    let (object, gone) = api
        .store
        .write_or_dry_run(Durability::Disk, mode, move |transaction| {
            let (namespace, name) = target.namespace_and_name();
            let object = transaction.get(target.kind, namespace, name)?;
            let object = object.ok_or_else(|| StatusError::not_found(target.kind, name))?;
            if target.kind == Kind::Namespace && PROTECTED_NAMESPACES.contains(&name) {
                let why = "this namespace may not be deleted";
                return Err(StatusError::forbidden(target.kind, name, why));
            }
            for (what, wanted, actual) in [
                ("UID", &delete.uid, object.uid()),
                (
                    "ResourceVersion",
                    &delete.version,
                    object.metadata_str("resourceVersion"),
                ),
            ] {
                if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != actual) {
                    return Err(StatusError::delete_precondition(
                        target.kind,
                        name,
                        what,
                        wanted,
                        actual,
                    ));
                }
            }
            let deleted = delete_object(transaction, object, delete.options)?;
            let gone = transaction.get_by_uid(deleted.uid())?.is_none();
            Ok((deleted, gone))
        })
        .await?;
    // For these kinds, kube-apiserver returns the deleted object; for the others, a `Status`.
    let shows_object = !gone
        || matches!(
            request.target.kind,
            Kind::Pod
                | Kind::PersistentVolumeClaim
                | Kind::Service
                | Kind::ServiceAccount
                | Kind::ResourceQuota
                | Kind::StorageClass
        );
    Ok(if shows_object {
        responses::value(StatusCode::OK, object.value())
    } else {
        responses::value(StatusCode::OK, &success_status(&object))
    })
}

fn success_status(object: &Object) -> Status {
    Status {
        status: Some("Success".to_owned()),
        details: Some(StatusDetails {
            uid: Some(object.uid().to_owned()),
            ..status_error::details(object.kind, object.name())
        }),
        ..Status::default()
    }
}

/// DELETE of a collection: all objects that match the selectors.
pub(super) async fn delete_collection(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let list_query = read::list_query(&request)?;
    let kind = list_query.kind;
    let delete = parse_delete_request(request.target.kind, request.body, &request.query).await?;
    let page = api
        .store
        .read(move |connection| store::list_objects(connection, &list_query))
        .await?;
    let mut deleted = Vec::new();
    for bytes in page.objects {
        let object = Object::decode(kind, &bytes).map_err(StatusError::internal)?;
        let options = delete.options;
        // One transaction per object, so that a large collection doesn't hold up other writers.
        let done = api
            .store
            .write_or_dry_run(Durability::Disk, delete.mode, move |transaction| {
                // The list may be outdated: look up the UID, since another object may have the name by now.
                match transaction.get_by_uid(object.uid())? {
                    Some(current) => delete_object(transaction, current, options).map(Some),
                    None => Ok(None),
                }
            })
            .await?;
        deleted.extend(done.map(|object| object.value().to_string().into()));
    }
    Ok(responses::json(
        StatusCode::OK,
        Representation::Full.encode_list(kind, &deleted, page.version, None),
    ))
}

/// POST to `eviction`: deletes a pod, and sets its `DisruptionTarget` condition, so that others can tell why.
pub(super) async fn evict(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let delete = parse_delete_request(request.target.kind, Body::empty(), &request.query).await?;
    let target = request.target.clone();
    api.store
        .write_or_dry_run(Durability::Disk, delete.mode, move |transaction| {
            let (namespace, name) = target.namespace_and_name();
            let pod = transaction.get(target.kind, namespace, name)?;
            let mut pod = pod.ok_or_else(|| StatusError::not_found(target.kind, name))?;
            let condition = PodCondition {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(Time(transaction.now)),
                reason: Some("EvictionByEvictionAPI".to_owned()),
                message: Some("Eviction API: evicting".to_owned()),
                ..PodCondition::default()
            };
            pod.update_status(|status| set_condition(status, condition))?;
            let pod = transaction.update(pod)?;
            delete_object(transaction, pod, DeleteOptions::default())
        })
        .await?;
    let done = Status {
        status: Some("Success".to_owned()),
        code: Some(StatusCode::CREATED.as_u16().into()),
        ..Status::default()
    };
    Ok(responses::value(StatusCode::CREATED, &done))
}
