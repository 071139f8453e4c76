//! POST, PUT, and DELETE: creates, replaces, and deletes objects.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use super::path::Target;
use super::query::{META, Query};
use super::view::View;
use super::{Api, Call, answer, read};
use crate::controllers::delete::{Options, Propagation, delete as delete_object, settle};
use crate::controllers::quota;
use crate::object::{Kind, Object, kind_of, time};
use crate::refusal::{FieldErrors, Refusal};
use crate::resources::{Admit, unknown_fields};
use crate::store::{self, Durability, Transaction};

/// Maximum size of a request body in bytes; kube-apiserver's limit.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// Attempts to generate a name that is not taken; as many as kube-apiserver makes.
const NAME_TRIES: usize = 8;

/// What to do about unknown fields (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    pub fn of(query: &Query, options: &str) -> Result<Self, Refusal> {
        match query.get("fieldValidation") {
            None | Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some("Strict") => Ok(Self::Strict),
            Some(other) => {
                let mut errors = FieldErrors::default();
                errors.unsupported("fieldValidation", other, &["Ignore", "Strict", "Warn"]);
                Err(Refusal::invalid_option(options, META, errors))
            }
        }
    }

    /// Returns warnings about unknown fields; fails if validation is strict.
    pub fn check(self, kind: &Kind, sent: &Value, known: &Value) -> Result<Vec<String>, Refusal> {
        let mut unknown = Vec::new();
        if self != Self::Ignore {
            unknown = unknown_fields(sent, known)
                .into_iter()
                .map(|field| format!("unknown field \"{field}\""))
                .collect();
        }
        if self == Self::Strict && !unknown.is_empty() {
            return Err(Refusal::undecodable(
                kind,
                &format!("strict decoding error: {}", unknown.join(", ")),
            ));
        }
        Ok(unknown)
    }
}

/// Result of a write.
pub(super) struct Written {
    pub object: Object,
    pub warnings: Vec<String>,
}

impl Written {
    pub fn respond(self, status: StatusCode, view: View) -> Response {
        let bytes = self.object.value.to_string().into();
        let mut response = answer::json(status, view.one(self.object.kind, &bytes));
        answer::warn(&mut response, &self.warnings);
        response
    }
}

/// Reads a body of at most [`MAX_BODY`] bytes.
pub(super) async fn body(body: Body) -> Result<Vec<u8>, Refusal> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(MAX_BODY)),
        Err(error) => Err(Refusal::bad_request(format!(
            "failed to read the request body: {error}"
        ))),
    }
}

/// Reads an object of a kind from the body.
async fn object(call: Body, headers: &HeaderMap, kind: &'static Kind) -> Result<Value, Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type
        .unwrap_or("application/json")
        .split(';')
        .next()
        .unwrap_or_default();
    match content_type.trim() {
        "application/json" | "*/*" | "" => {}
        "application/vnd.kubernetes.protobuf" => return Err(Refusal::protobuf()),
        _ => return Err(Refusal::unsupported_media_type("application/json")),
    }
    let bytes = body(call).await?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {error}",
            kind.kind
        ))
    })?;
    check_type(&value, kind)?;
    Ok(value)
}

pub(super) fn check_type(value: &Value, kind: &Kind) -> Result<(), Refusal> {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (version, name) = (text("apiVersion"), text("kind"));
    if !version.is_empty() && version != kind.api_version() {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            kind.api_version()
        )));
    }
    if !name.is_empty() && name != kind.kind {
        return Err(Refusal::bad_request(format!(
            "no kind \"{name}\" is registered for version \"{}\" at this path; expected \"{}\"",
            kind.api_version(),
            kind.kind
        )));
    }
    if !value.is_object() {
        return Err(Refusal::bad_request("the object provided is unrecognized"));
    }
    Ok(())
}

/// Sets the namespace of the path; fails if the object has another one.
fn place(object: &mut Object, target: &Target) -> Result<(), Refusal> {
    let namespace = target.namespace.as_deref().unwrap_or_default();
    if !target.kind.namespaced {
        object.metadata_mut().shift_remove("namespace");
        return Ok(());
    }
    if target.namespace.is_none() {
        return Err(Refusal::method_not_allowed());
    }
    if !object.namespace().is_empty() && object.namespace() != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Refusal::bad_request(why));
    }
    object.set("namespace", namespace);
    Ok(())
}

/// POST: creates an object.
pub(super) async fn create(api: &Api, call: Call) -> Result<Response, Refusal> {
    let validation = FieldValidation::of(&call.query, "CreateOptions")?;
    let keep = !call.query.dry_run("CreateOptions")?;
    let kind = call.target.kind;
    let sent = object(call.body, &call.headers, kind).await?;
    let mut object = Object::new(kind, sent);
    place(&mut object, &call.target)?;
    let written = api
        .store
        .write(Durability::Disk, keep, move |transaction| {
            create_in(transaction, object, validation)
        })
        .await?;
    Ok(written.respond(StatusCode::CREATED, View::accepted(&call.headers, api.clock)))
}

/// Creates an object whose namespace is set. Apply uses this, too.
pub(super) fn create_in(
    transaction: &mut Transaction<'_>,
    mut object: Object,
    validation: FieldValidation,
) -> Result<Written, Refusal> {
    let kind = object.kind;
    if !object.text_of("resourceVersion").is_empty() {
        return Err(Refusal::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    check_namespace(transaction, &object)?;
    check_room(transaction, &object)?;
    begin(&mut object, transaction);
    let prefix = object.text_of("generateName").to_owned();
    let generated = object.name().is_empty() && !prefix.is_empty();
    if object.name().is_empty() && !generated {
        let mut errors = FieldErrors::default();
        errors.required("metadata.name", "name or generateName is required");
        errors.into_result(kind, "")?;
    }
    let sent = object.value.clone();
    for left in (0..NAME_TRIES).rev() {
        if generated {
            object.set("name", format!("{prefix}{}", transaction.random.suffix()));
        }
        quota::check(transaction, &object)?;
        let value = (kind.admit)(Admit {
            object: object.clone(),
            old: None,
        })?;
        let warnings = validation.check(kind, &sent, &value)?;
        match transaction.create(Object::new(kind, value)) {
            Err(refusal) if generated && left > 0 && refusal.reason == "AlreadyExists" => {}
            result => return result.map(|object| Written { object, warnings }),
        }
    }
    Err(Refusal::already_exists(kind, object.name()))
}

/// Sets the system fields of a new object, and removes those that clients can't set.
fn begin(object: &mut Object, transaction: &mut Transaction<'_>) {
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
    object.set("creationTimestamp", time(transaction.now));
    if object.kind.has_status {
        if let Value::Object(map) = &mut object.value {
            map.shift_remove("status");
        }
        object.set("generation", 1);
    }
}

/// Rejects new objects while the disk is full. If the name is taken, the client gets `AlreadyExists` instead.
fn check_room(transaction: &Transaction<'_>, object: &Object) -> Result<(), Refusal> {
    if !transaction.is_crowded()
        || transaction
            .get(object.kind, object.namespace(), object.name())?
            .is_some()
    {
        return Ok(());
    }
    let why = "the disk of the state directory is full; stop tasks, delete volumes, or free up space";
    Err(Refusal::internal(why))
}

fn check_namespace(transaction: &Transaction<'_>, object: &Object) -> Result<(), Refusal> {
    if !object.kind.namespaced {
        return Ok(());
    }
    let kind = kind_of("namespaces");
    match transaction.get(kind, "", object.namespace())? {
        None => Err(Refusal::not_found(kind, object.namespace())),
        Some(namespace) if namespace.is_deleting() => {
            let name = object.namespace();
            let why = format!("unable to create new content in namespace {name} because it is being terminated");
            Err(Refusal::forbidden(object.kind, object.name(), &why))
        }
        Some(_) => Ok(()),
    }
}

/// PUT: replaces an object, or its status.
pub(super) async fn replace(api: &Api, call: Call) -> Result<Response, Refusal> {
    let validation = FieldValidation::of(&call.query, "UpdateOptions")?;
    let keep = !call.query.dry_run("UpdateOptions")?;
    let target = call.target.clone();
    let sent = object(call.body, &call.headers, target.kind).await?;
    let written = api
        .store
        .write(Durability::Disk, keep, move |transaction| {
            let (namespace, name) = target.one();
            let mut new = Object::new(target.kind, sent);
            place(&mut new, &target)?;
            if new.name() != name {
                return Err(Refusal::bad_request(format!(
                    "the name of the object ({}) does not match the name on the URL ({name})",
                    new.name()
                )));
            }
            let old = transaction.get(target.kind, namespace, name)?;
            let old = old.ok_or_else(|| Refusal::not_found(target.kind, name))?;
            change(transaction, &old, new, target.subresource.is_some(), validation)
        })
        .await?;
    Ok(written.respond(StatusCode::OK, View::accepted(&call.headers, api.clock)))
}

/// Replaces `old` with `new`, or only its status.
pub(super) fn change(
    transaction: &mut Transaction<'_>,
    old: &Object,
    mut new: Object,
    is_status: bool,
    validation: FieldValidation,
) -> Result<Written, Refusal> {
    let kind = old.kind;
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let mut refusal = Refusal::precondition(kind, old.name(), "UID", new.uid(), old.uid());
        refusal.details["kind"] = kind.plural.into();
        return Err(refusal);
    }
    let version = new.text_of("resourceVersion");
    if !version.is_empty() && version != "0" && version != old.text_of("resourceVersion") {
        return Err(Refusal::modified(kind, old.name()));
    }
    // Clients can't change these fields; what they send is ignored.
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "generateName",
    ] {
        match old.value["metadata"].get(field) {
            Some(value) => new.set(field, value.clone()),
            None => drop(new.metadata_mut().shift_remove(field)),
        }
    }
    if is_status {
        // The `status` subresource changes nothing but the status; the object itself, everything else.
        let status = new.value["status"].take();
        new = old.clone();
        new.value["status"] = status;
    } else if kind.has_status && !old.value["status"].is_null() {
        new.value["status"] = old.value["status"].clone();
    }
    let sent = new.value.clone();
    let value = (kind.admit)(Admit {
        object: new,
        old: Some(old),
    })?;
    let warnings = validation.check(kind, &sent, &value)?;
    let mut new = Object::new(kind, value);
    if kind.has_status && new.value["spec"] != old.value["spec"] {
        let generation = old.value["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        new.set("generation", generation);
    }
    let object = transaction.update(new)?;
    let object = settle(transaction, object)?;
    Ok(Written { object, warnings })
}

/// Deletion options, from the body and the query.
struct Wish {
    options: Options,
    uid: Option<String>,
    version: Option<String>,
    keep: bool,
}

async fn wish(kind: &Kind, call_body: Body, query: &Query) -> Result<Wish, Refusal> {
    let bytes = body(call_body).await?;
    let sent: Value = if bytes.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::bad_request(format!("invalid delete options: {error}")))?
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let propagation = text(&sent["propagationPolicy"]).or_else(|| query.get("propagationPolicy").map(str::to_owned));
    let propagation = match propagation.as_deref() {
        // The Job API keeps its original default for compatibility:
        // <https://github.com/kubernetes/kubernetes/blob/master/pkg/registry/batch/job/strategy.go>.
        None if kind.plural == "jobs" => Propagation::Orphan,
        None | Some("Background") => Propagation::Background,
        Some("Foreground") => Propagation::Foreground,
        Some("Orphan") => Propagation::Orphan,
        Some(other) => {
            let mut errors = FieldErrors::default();
            errors.unsupported(
                "propagationPolicy",
                other,
                &["Foreground", "Background", "Orphan", "nil"],
            );
            return Err(Refusal::invalid_option("DeleteOptions", META, errors));
        }
    };
    let grace = match sent["gracePeriodSeconds"].as_i64() {
        Some(seconds) => Some(seconds),
        None => query.number("gracePeriodSeconds")?,
    };
    let dry_run = sent["dryRun"].as_array().is_some_and(|list| !list.is_empty());
    Ok(Wish {
        options: Options {
            grace: grace.map(|seconds| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)),
            propagation,
        },
        uid: text(&sent["preconditions"]["uid"]),
        version: text(&sent["preconditions"]["resourceVersion"]),
        keep: !query.dry_run("DeleteOptions")? && !dry_run,
    })
}

/// DELETE of one object.
pub(super) async fn delete(api: &Api, call: Call) -> Result<Response, Refusal> {
    let wish = wish(call.target.kind, call.body, &call.query).await?;
    let target = call.target.clone();
    let keep = wish.keep;
    let (object, gone) = api
        .store
        .write(Durability::Disk, keep, move |transaction| {
            let (namespace, name) = target.one();
            let object = transaction.get(target.kind, namespace, name)?;
            let object = object.ok_or_else(|| Refusal::not_found(target.kind, name))?;
            for (what, wanted, actual) in [
                ("UID", &wish.uid, object.uid()),
                ("ResourceVersion", &wish.version, object.text_of("resourceVersion")),
            ] {
                if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != actual) {
                    return Err(Refusal::precondition(target.kind, name, what, wanted, actual));
                }
            }
            let deleted = delete_object(transaction, object, wish.options)?;
            let gone = transaction.by_uid(deleted.uid())?.is_none();
            Ok((deleted, gone))
        })
        .await?;
    // For these kinds, kube-apiserver returns the deleted object; for the others, a `Status`.
    let shows_object = !gone
        || matches!(
            call.target.kind.plural,
            "pods" | "persistentvolumeclaims" | "services" | "serviceaccounts" | "resourcequotas" | "storageclasses"
        );
    let shown = if shows_object { object.value } else { success(&object) };
    Ok(answer::value(StatusCode::OK, &shown))
}

fn success(object: &Object) -> Value {
    let mut details = json!({"name": object.name()});
    if !object.kind.group.is_empty() {
        details["group"] = object.kind.group.into();
    }
    details["kind"] = object.kind.plural.into();
    details["uid"] = object.uid().into();
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// DELETE of a collection: all objects that match the selectors.
pub(super) async fn delete_collection(api: &Api, call: Call) -> Result<Response, Refusal> {
    let wanted = read::wanted(&call)?;
    let kind = wanted.kind;
    let wish = wish(call.target.kind, call.body, &call.query).await?;
    let page = api
        .store
        .read(move |connection| store::list(connection, &wanted))
        .await?;
    let mut deleted = Vec::new();
    for bytes in page.objects {
        let object = Object {
            kind,
            value: serde_json::from_slice(&bytes).map_err(Refusal::internal)?,
        };
        let options = wish.options;
        // One transaction per object, so that a large collection doesn't hold up other writers.
        let done = api
            .store
            .write(Durability::Disk, wish.keep, move |transaction| {
                // The list may be outdated: look up the UID, since another object may have the name by now.
                match transaction.by_uid(object.uid())? {
                    Some(current) => delete_object(transaction, current, options).map(Some),
                    None => Ok(None),
                }
            })
            .await?;
        deleted.extend(done.map(|object| object.value.to_string().into()));
    }
    Ok(answer::json(
        StatusCode::OK,
        View::Whole.list(kind, &deleted, page.version, None),
    ))
}

/// POST to `eviction`: deletes a pod, and sets its `DisruptionTarget` condition, so that others can tell why.
pub(super) async fn evict(api: &Api, call: Call) -> Result<Response, Refusal> {
    let wish = wish(call.target.kind, Body::empty(), &call.query).await?;
    let target = call.target.clone();
    api.store
        .write(Durability::Disk, wish.keep, move |transaction| {
            let (namespace, name) = target.one();
            let pod = transaction.get(target.kind, namespace, name)?;
            let mut pod = pod.ok_or_else(|| Refusal::not_found(target.kind, name))?;
            let stamp = time(transaction.now);
            crate::controllers::set_condition(
                &mut pod,
                json!({
                    "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": stamp,
                    "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
                }),
            );
            let pod = transaction.update(pod)?;
            delete_object(transaction, pod, Options::default())
        })
        .await?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(answer::value(StatusCode::CREATED, &done))
}
