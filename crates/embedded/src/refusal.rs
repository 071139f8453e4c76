//! Error responses: `metav1.Status` objects with kube-apiserver's reasons and messages.

use http::StatusCode;
use serde_json::{Value, json};

use crate::object::Kind;

/// A failed request. Its texts are kube-apiserver's, since clients compare reasons and users search for messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub code: StatusCode,
    /// Machine-readable reason, e.g., `NotFound`.
    pub reason: &'static str,
    /// Human-readable message.
    pub message: String,
    /// `metav1.StatusDetails`: name, group, and kind of the object, and the causes.
    pub details: Value,
}

const OPTIONS: &str = "Options";

impl Refusal {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
        }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({"name": name});
        if !kind.group.is_empty() {
            self.details["group"] = kind.group.into();
        }
        self.details["kind"] = kind.plural.into();
        self
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The path exists, but not with this method.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// The client sent a stale `resourceVersion`.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// The request conflicts with the state of the object.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// The object decodes, but fails validation.
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        // Like `field.ErrorList.ToAggregate`, the message has each error once, while the causes repeat them.
        let mut texts: Vec<String> = Vec::new();
        for error in errors {
            let text = format!("{}: {}", error.field, error.message);
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} \"{name}\" is invalid: {list}", kind.qualified());
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message).about(kind, name);
        refusal.details["kind"] = kind.kind.into();
        refusal.details["causes"] = errors
            .iter()
            .map(|error| json!({"reason": error.reason, "message": error.message, "field": error.field}))
            .collect();
        refusal
    }

    /// A query parameter is invalid; `options` is the type it belongs to, e.g., `PatchOptions`.
    pub fn invalid_option(options: &str, group: &str, errors: FieldErrors) -> Self {
        // `OPTIONS` stands in for the type's name, which is not `'static`, and is replaced below.
        let kind = Kind {
            kind: OPTIONS,
            group: "",
            ..*crate::object::kind_of("configmaps")
        };
        let mut refusal = Self::invalid(&kind, "", &errors.0);
        let qualified = if group.is_empty() {
            options.to_owned()
        } else {
            format!("{options}.{group}")
        };
        refusal.message = refusal.message.replacen(OPTIONS, &qualified, 1);
        refusal.details["kind"] = options.into();
        if !group.is_empty() {
            refusal.details["group"] = group.into();
        }
        refusal
    }

    /// The patched object does not decode.
    pub fn invalid_patch(why: &str) -> Self {
        let message = format!(" \"\" is invalid: patch: Invalid value: \"\": {why}");
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let cause =
            json!({"reason": "FieldValueInvalid", "message": format!("Invalid value: \"\": {why}"), "field": "patch"});
        refusal.details = json!({"causes": [cause]});
        refusal
    }

    /// A JSON patch operation cannot be applied to the object.
    pub fn unfit_patch(why: &str) -> Self {
        let message = format!("the server rejected our request due to an error in our request: {why}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// A UID or `resourceVersion` precondition does not hold.
    pub fn precondition(kind: &Kind, name: &str, what: &str, wanted: &str, actual: &str) -> Self {
        let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}");
        let mut refusal = Self::conflict(kind, name, &why);
        refusal.details["kind"] = kind.kind.into();
        refusal
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The body does not decode as the kind that its path names.
    pub fn undecodable(kind: &Kind, why: &str) -> Self {
        let Kind { kind, version, .. } = kind;
        Self::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    }

    /// Admission denied the request, e.g., a quota is exceeded, or the namespace is terminating.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.resource());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// The bearer token is missing or wrong.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// Changes after `asked` are no longer kept; the client has to list again.
    pub fn expired(asked: i64, oldest: i64) -> Self {
        let message = format!("too old resource version: {asked} ({oldest})");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// `kubectl create job` and similar commands send protobuf; `kubectl apply` and `kubectl create --filename` send
    /// JSON.
    pub fn protobuf() -> Self {
        let message = "protobuf is unsupported; \
                       add `--dry-run=client --output yaml` and pipe the output to `kubectl apply --filename -`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity is too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// A failure on our side, such as a bug or an I/O error. Log the cause where it occurs.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Serializes as a `metav1.Status`.
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status["code"] = self.code.as_u16().into();
        status
    }
}

/// A validation error.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Path of the field, e.g., `spec.template.spec.containers[0].name`.
    pub field: String,
    /// Machine-readable reason, e.g., `FieldValueRequired`.
    pub reason: &'static str,
    pub message: String,
}

/// Collects the validation errors of an object, so that a client sees all of them in one response.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    fn add(&mut self, field: impl Into<String>, reason: &'static str, message: String) {
        self.0.push(FieldError {
            field: field.into(),
            reason,
            message,
        });
    }

    pub fn required(&mut self, field: impl Into<String>, why: &str) {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        self.add(field, "FieldValueRequired", message);
    }

    pub fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, why: &str) {
        let message = format!("Invalid value: {}: {why}", shown(&value.into()));
        self.add(field, "FieldValueInvalid", message);
    }

    pub fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|text| format!("\"{text}\"")).collect();
        let message = format!("Unsupported value: \"{value}\": supported values: {}", list.join(", "));
        self.add(field, "FieldValueNotSupported", message);
    }

    pub fn duplicate(&mut self, field: impl Into<String>, value: &str) {
        self.add(field, "FieldValueDuplicate", format!("Duplicate value: \"{value}\""));
    }

    /// The value refers to something that doesn't exist, e.g., a volume mount without its volume.
    pub fn not_found(&mut self, field: impl Into<String>, value: &str) {
        self.add(field, "FieldValueNotFound", format!("Not found: \"{value}\""));
    }

    pub fn forbidden(&mut self, field: impl Into<String>, why: &str) {
        self.add(field, "FieldValueForbidden", format!("Forbidden: {why}"));
    }

    pub fn too_long(&mut self, field: impl Into<String>, limit: usize) {
        let message = format!("Too long: may not be more than {limit} bytes");
        self.add(field, "FieldValueTooLong", message);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails with [`Refusal::invalid`] if there are errors.
    pub fn into_result(self, kind: &Kind, name: &str) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Refusal::invalid(kind, name, &self.0))
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}
