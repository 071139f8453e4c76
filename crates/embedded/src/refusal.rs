//! What the API answers instead of an object: `metav1.Status` with the reasons of a real API server.

use http::StatusCode;
use serde_json::{Value, json};

use crate::object::Kind;

/// A failed request, as `metav1.Status` tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: StatusCode,
    /// The machine's word for it.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// What it is about: name, group, kind, causes.
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

    /// There is no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// There is no such path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// The path is known, the method is not.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// Another object has the name.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// The caller has not seen the newest version.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// The change does not fit what is there.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// The object is understood, and wrong.
    pub fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
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

    /// A parameter of the request is wrong; `options` is the name of the type that it belongs to.
    pub fn invalid_option(options: &str, group: &str, errors: FieldErrors) -> Self {
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

    /// A patch makes something that cannot be read.
    pub fn invalid_patch(why: &str) -> Self {
        let message = format!(" \"\" is invalid: patch: Invalid value: \"\": {why}");
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let cause =
            json!({"reason": "FieldValueInvalid", "message": format!("Invalid value: \"\": {why}"), "field": "patch"});
        refusal.details = json!({"causes": [cause]});
        refusal
    }

    /// A JSON patch does not fit.
    pub fn unfit_patch(why: &str) -> Self {
        let message = format!("the server rejected our request due to an error in our request: {why}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// What was to be deleted is not what is there.
    pub fn precondition(kind: &Kind, name: &str, what: &str, wanted: &str, actual: &str) -> Self {
        let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}");
        let mut refusal = Self::conflict(kind, name, &why);
        refusal.details["kind"] = kind.kind.into();
        refusal
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// The object cannot be read as what its path says it is.
    pub fn undecodable(kind: &Kind, why: &str) -> Self {
        let Kind { kind, version, .. } = kind;
        Self::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    }

    /// A rule of the namespace forbids it.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.resource());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// The caller has not shown the token.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// Changes since that version are no longer known.
    pub fn expired(asked: i64, oldest: i64) -> Self {
        let message = format!("too old resource version: {asked} ({oldest})");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The body is in a form that is not taken.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// What `kubectl create job` and the like send. `kubectl apply` and `kubectl create --filename` send JSON.
    pub fn protobuf() -> Self {
        let message = "this kubectl command sends protobuf, and tasks on this machine take JSON only; \
                       add `--dry-run=client --output yaml` to it and pipe the result to `kubectl apply --filename -`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// The body is too large.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity is too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// Our own fault; the cause is in the log.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The `metav1.Status` object.
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

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// Its path, such as `spec.template.spec.containers[0].name`.
    pub field: String,
    /// Kubernetes' word for the kind of mistake.
    pub reason: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Collects what is wrong with an object, all of it.
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

    /// A field that must be there is not.
    pub fn required(&mut self, field: impl Into<String>, why: &str) {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        self.add(field, "FieldValueRequired", message);
    }

    /// A value is wrong.
    pub fn invalid(&mut self, field: impl Into<String>, value: impl Into<Value>, why: &str) {
        let message = format!("Invalid value: {}: {why}", shown(&value.into()));
        self.add(field, "FieldValueInvalid", message);
    }

    /// A value is none of those that are possible.
    pub fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|text| format!("\"{text}\"")).collect();
        let message = format!("Unsupported value: \"{value}\": supported values: {}", list.join(", "));
        self.add(field, "FieldValueNotSupported", message);
    }

    /// A value is there twice.
    pub fn duplicate(&mut self, field: impl Into<String>, value: &str) {
        self.add(field, "FieldValueDuplicate", format!("Duplicate value: \"{value}\""));
    }

    /// A value names what is not there.
    pub fn not_found(&mut self, field: impl Into<String>, value: &str) {
        self.add(field, "FieldValueNotFound", format!("Not found: \"{value}\""));
    }

    /// A field may not be used here.
    pub fn forbidden(&mut self, field: impl Into<String>, why: &str) {
        self.add(field, "FieldValueForbidden", format!("Forbidden: {why}"));
    }

    /// A value is too long.
    pub fn too_long(&mut self, field: impl Into<String>, limit: usize) {
        let message = format!("Too long: may not be more than {limit} bytes");
        self.add(field, "FieldValueTooLong", message);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends in a refusal if anything is wrong.
    ///
    /// # Errors
    /// Anything is wrong.
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
