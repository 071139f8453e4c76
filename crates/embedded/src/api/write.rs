//! POST and PUT: creates and replaces objects.

use axum::response::Response;
use http::StatusCode;

use super::body::read_object;
use super::field_validation::FieldValidation;
use super::path::ResourcePath;
use super::representation::Representation;
use super::request::{Api, ResourceRequest};
use super::responses;
use crate::controllers::{check_quota, remove_if_finalized};
use crate::field_errors::FieldErrors;
use crate::object::{Kind, Object, format_time};
use crate::resources::{prepare_for_create, prepare_for_update};
use crate::status_error::{StatusError, StatusReason};
use crate::store::{Durability, Transaction};

/// Attempts to generate a name that is not taken; as many as kube-apiserver makes.
const NAME_TRIES: usize = 8;

/// Result of a write.
pub(super) struct Written {
    pub object: Object,
    pub warnings: Vec<String>,
}

impl Written {
    pub(crate) fn respond(self, status: StatusCode, representation: Representation) -> Response {
        let bytes = self.object.value().to_string().into();
        let mut response = responses::json(status, representation.encode(self.object.kind, &bytes));
        responses::add_warnings(&mut response, &self.warnings);
        response
    }
}

/// Sets the namespace of the path; fails if the object has another one.
fn set_namespace(object: &mut Object, target: &ResourcePath) -> Result<(), StatusError> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    if !target.kind.is_namespaced() {
        object.metadata_mut().shift_remove("namespace");
        return Ok(());
    }
    if target.namespace.is_none() {
        return Err(StatusError::method_not_allowed());
    }
    if !object.namespace().is_empty() && object.namespace() != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(StatusError::bad_request(why));
    }
    object.set("namespace", namespace);
    Ok(())
}

/// POST: creates an object.
pub(super) async fn create(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let validation = FieldValidation::from_query(&request.query, "CreateOptions")?;
    let mode = request.query.write_mode("CreateOptions")?;
    let kind = request.target.kind;
    let sent = read_object(request.body, &request.headers, kind).await?;
    let mut object = Object::new(kind, sent);
    set_namespace(&mut object, &request.target)?;
    let written = api
        .store
        .write_or_dry_run(Durability::Disk, mode, move |transaction| {
            create_in(transaction, object, validation)
        })
        .await?;
    Ok(written.respond(
        StatusCode::CREATED,
        Representation::from_accept(&request.headers, api.clock),
    ))
}

/// Creates an object whose namespace is set. Apply uses this, too.
pub(super) fn create_in(
    transaction: &mut Transaction<'_>,
    mut object: Object,
    validation: FieldValidation,
) -> Result<Written, StatusError> {
    let kind = object.kind;
    if !object.metadata_str("resourceVersion").is_empty() {
        return Err(StatusError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    check_namespace(transaction, &object)?;
    check_disk_space(transaction, &object)?;
    set_system_fields(&mut object, transaction);
    let prefix = object.metadata_str("generateName").to_owned();
    let generated = object.name().is_empty() && !prefix.is_empty();
    if object.name().is_empty() && !generated {
        let mut errors = FieldErrors::default();
        errors.required("metadata.name", "name or generateName is required");
        errors.into_result(kind, "")?;
    }
    let sent = object.value().clone();
    for left in (0..NAME_TRIES).rev() {
        if generated {
            object.set("name", format!("{prefix}{}", transaction.random.suffix()));
        }
        check_quota(transaction, &object)?;
        let prepared = prepare_for_create(object.clone())?;
        let warnings = validation.check(kind, &sent, prepared.value())?;
        match transaction.create(prepared) {
            Err(error) if generated && left > 0 && error.reason == StatusReason::AlreadyExists => {}
            result => return result.map(|object| Written { object, warnings }),
        }
    }
    Err(StatusError::already_exists(kind, object.name()))
}

/// Sets the system fields of a new object, and removes those that clients can't set.
fn set_system_fields(object: &mut Object, transaction: &mut Transaction<'_>) {
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
        "generation",
    ] {
        object.metadata_mut().shift_remove(field);
    }
    object.set("uid", transaction.random.uid());
    object.set("creationTimestamp", format_time(transaction.now));
    if object.kind.has_status() {
        object.remove_status();
        object.set("generation", 1);
    }
}

/// Rejects new objects while the disk is full. If the name is taken, the client gets `AlreadyExists` instead.
fn check_disk_space(transaction: &Transaction<'_>, object: &Object) -> Result<(), StatusError> {
    if !transaction.rejects_new_objects()
        || transaction
            .get(object.kind, object.namespace(), object.name())?
            .is_some()
    {
        return Ok(());
    }
    let why = "the disk of the state directory is full; stop tasks, delete volumes, or free up space";
    Err(StatusError::internal(why))
}

fn check_namespace(transaction: &Transaction<'_>, object: &Object) -> Result<(), StatusError> {
    if !object.kind.is_namespaced() {
        return Ok(());
    }
    let kind = Kind::Namespace;
    match transaction.get(kind, "", object.namespace())? {
        None => Err(StatusError::not_found(kind, object.namespace())),
        Some(namespace) if namespace.is_deleting() => {
            let name = object.namespace();
            let why = format!("unable to create new content in namespace {name} because it is being terminated");
            Err(StatusError::forbidden(object.kind, object.name(), &why))
        }
        Some(_) => Ok(()),
    }
}

/// PUT: replaces an object, or its status.
pub(super) async fn replace(api: &Api, request: ResourceRequest) -> Result<Response, StatusError> {
    let validation = FieldValidation::from_query(&request.query, "UpdateOptions")?;
    let mode = request.query.write_mode("UpdateOptions")?;
    let target = request.target.clone();
    let sent = read_object(request.body, &request.headers, target.kind).await?;
    let written = api
        .store
        .write_or_dry_run(Durability::Disk, mode, move |transaction| {
            let (namespace, name) = target.namespace_and_name();
            let mut new = Object::new(target.kind, sent);
            set_namespace(&mut new, &target)?;
            if new.name() != name {
                return Err(StatusError::bad_request(format!(
                    "the name of the object ({}) does not match the name on the URL ({name})",
                    new.name()
                )));
            }
            let old = transaction.get(target.kind, namespace, name)?;
            let old = old.ok_or_else(|| StatusError::not_found(target.kind, name))?;
            update_in(transaction, &old, new, target.subresource.is_some(), validation)
        })
        .await?;
    Ok(written.respond(StatusCode::OK, Representation::from_accept(&request.headers, api.clock)))
}

/// Replaces `old` with `new`, or only its status.
pub(super) fn update_in(
    transaction: &mut Transaction<'_>,
    old: &Object,
    mut new: Object,
    is_status: bool,
    validation: FieldValidation,
) -> Result<Written, StatusError> {
    let kind = old.kind;
    if !new.uid().is_empty() && new.uid() != old.uid() {
        return Err(StatusError::update_precondition(kind, old.name(), new.uid(), old.uid()));
    }
    let version = new.metadata_str("resourceVersion");
    if !version.is_empty() && version != "0" && version != old.metadata_str("resourceVersion") {
        return Err(StatusError::modified(kind, old.name()));
    }
    // Clients can't change these fields; what they send is ignored.
    new.copy_metadata(
        old,
        &[
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "resourceVersion",
            "generateName",
        ],
    );
    if is_status {
        // The `status` subresource changes nothing but the status; the object itself, everything else.
        let mut sent = std::mem::replace(&mut new, old.clone());
        new.take_status(&mut sent);
    } else if kind.has_status() && old.has_status() {
        new.copy_status(old);
    }
    let sent = new.value().clone();
    let mut new = prepare_for_update(new, old)?;
    let warnings = validation.check(kind, &sent, new.value())?;
    if kind.has_status() && !new.has_same_spec(old) {
        new.set("generation", old.generation() + 1);
    }
    let object = transaction.update(new)?;
    let object = remove_if_finalized(transaction, object)?;
    Ok(Written { object, warnings })
}
