//! Error responses: `metav1.Status` objects with kube-apiserver's reasons and messages.

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::field_errors::{FieldError, FieldErrors};
use crate::object::Kind;

/// Machine-readable reason of a failed request (`metav1.StatusReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusReason {
    NotFound,
    MethodNotAllowed,
    AlreadyExists,
    Conflict,
    Invalid,
    BadRequest,
    Forbidden,
    Unauthorized,
    Expired,
    UnsupportedMediaType,
    RequestEntityTooLarge,
    InternalError,
}

impl StatusReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Invalid => "Invalid",
            Self::BadRequest => "BadRequest",
            Self::Forbidden => "Forbidden",
            Self::Unauthorized => "Unauthorized",
            Self::Expired => "Expired",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::InternalError => "InternalError",
        }
    }
}

/// A failed request. Its texts are kube-apiserver's, since clients compare reasons and users search for messages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatusError {
    pub code: StatusCode,
    pub reason: StatusReason,
    /// Human-readable message.
    pub message: String,
    /// Name, group, and kind of the object, and the causes.
    pub details: Option<Box<StatusDetails>>,
}

impl StatusError {
    fn new(code: StatusCode, reason: StatusReason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn with(mut self, details: StatusDetails) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    fn about(self, kind: Kind, name: &str) -> Self {
        self.with(details(kind, name))
    }

    /// Like [`Self::about`], but names the kind, e.g., `Job`, where the other errors have its plural.
    fn about_kind(self, kind: Kind, name: &str, causes: Option<Vec<StatusCause>>) -> Self {
        self.with(StatusDetails {
            kind: Some(kind.name().to_owned()),
            causes,
            ..details(kind, name)
        })
    }

    pub(crate) fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(StatusCode::NOT_FOUND, StatusReason::NotFound, message).about(kind, name)
    }

    pub(crate) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, StatusReason::NotFound, message)
    }

    /// The path exists, but not with this method.
    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, StatusReason::MethodNotAllowed, message)
    }

    pub(crate) fn already_exists(kind: Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(StatusCode::CONFLICT, StatusReason::AlreadyExists, message).about(kind, name)
    }

    /// The client sent a stale `resourceVersion`.
    pub(crate) fn modified(kind: Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// The request conflicts with the state of the object.
    pub(crate) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(StatusCode::CONFLICT, StatusReason::Conflict, message).about(kind, name)
    }

    /// The object decodes, but fails validation.
    pub(crate) fn invalid(kind: Kind, name: &str, errors: &FieldErrors) -> Self {
        let message = invalid_message(&kind.qualified(), name, errors);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, StatusReason::Invalid, message).about_kind(
            kind,
            name,
            Some(causes(errors)),
        )
    }

    /// A query parameter is invalid; `options` is the type it belongs to, e.g., `PatchOptions`.
    pub(crate) fn invalid_option(options: &str, group: &str, errors: &FieldErrors) -> Self {
        let qualified = if group.is_empty() {
            options.to_owned()
        } else {
            format!("{options}.{group}")
        };
        let message = invalid_message(&qualified, "", errors);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, StatusReason::Invalid, message).with(StatusDetails {
            name: Some(String::new()),
            group: non_empty(group),
            kind: Some(options.to_owned()),
            causes: Some(causes(errors)),
            ..StatusDetails::default()
        })
    }

    /// The patched object does not decode.
    pub(crate) fn invalid_patch(why: &str) -> Self {
        let message = format!(" \"\" is invalid: patch: Invalid value: \"\": {why}");
        let cause = StatusCause {
            reason: Some("FieldValueInvalid".to_owned()),
            message: Some(format!("Invalid value: \"\": {why}")),
            field: Some("patch".to_owned()),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, StatusReason::Invalid, message).with(StatusDetails {
            causes: Some(vec![cause]),
            ..StatusDetails::default()
        })
    }

    /// A JSON patch operation cannot be applied to the object.
    pub(crate) fn inapplicable_patch(why: &str) -> Self {
        let message = format!("the server rejected our request due to an error in our request: {why}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, StatusReason::Invalid, message)
    }

    /// A UID or `resourceVersion` precondition of a deletion does not hold.
    pub(crate) fn delete_precondition(kind: Kind, name: &str, what: &str, wanted: &str, actual: &str) -> Self {
        Self::conflict(kind, name, &precondition_message(what, wanted, actual)).about_kind(kind, name, None)
    }

    /// The client sent the UID of another object in an update.
    pub(crate) fn update_precondition(kind: Kind, name: &str, wanted: &str, actual: &str) -> Self {
        Self::conflict(kind, name, &precondition_message("UID", wanted, actual))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, StatusReason::BadRequest, message)
    }

    /// The body does not decode as the kind that its path names.
    pub(crate) fn undecodable(kind: Kind, why: &str) -> Self {
        let (kind, version) = (kind.name(), kind.version());
        Self::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        ))
    }

    /// Admission denied the request, e.g., a quota is exceeded, or the namespace is terminating.
    pub(crate) fn forbidden(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.resource());
        Self::new(StatusCode::FORBIDDEN, StatusReason::Forbidden, message).about(kind, name)
    }

    /// The bearer token is missing or wrong.
    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, StatusReason::Unauthorized, "Unauthorized")
    }

    /// Changes after `asked` are no longer kept; the client has to list again.
    pub(crate) fn expired(asked: i64, oldest: i64) -> Self {
        let message = format!("too old resource version: {asked} ({oldest})");
        Self::new(StatusCode::GONE, StatusReason::Expired, message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusReason::UnsupportedMediaType,
            message,
        )
    }

    /// `kubectl create job` and similar commands send protobuf; `kubectl apply` and `kubectl create --filename` send
    /// JSON.
    pub(crate) fn protobuf() -> Self {
        let message = "protobuf is unsupported; \
                       add `--dry-run=client --output yaml` and pipe the output to `kubectl apply --filename -`";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            StatusReason::UnsupportedMediaType,
            message,
        )
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity is too large: limit is {limit}");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusReason::RequestEntityTooLarge,
            message,
        )
    }

    /// A failure on our side, such as a bug or an I/O error. Log the cause where it occurs.
    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, StatusReason::InternalError, message)
    }

    /// The response's body.
    pub(crate) fn into_status(self) -> Status {
        Status {
            status: Some("Failure".to_owned()),
            message: Some(self.message),
            reason: Some(self.reason.as_str().to_owned()),
            details: self.details.map(|details| *details),
            code: Some(self.code.as_u16().into()),
            ..Status::default()
        }
    }
}

/// A stored object doesn't decode as its type, or a value doesn't encode: a bug, since only objects that decode are
/// stored. What clients send is a [`StatusError::bad_request`] instead.
impl From<serde_json::Error> for StatusError {
    fn from(error: serde_json::Error) -> Self {
        tracing::error!(%error, "cannot decode or encode an object");
        Self::internal(error)
    }
}

/// What a `Status` is about.
pub(crate) fn details(kind: Kind, name: &str) -> StatusDetails {
    StatusDetails {
        name: Some(name.to_owned()),
        group: non_empty(kind.group()),
        kind: Some(kind.plural().to_owned()),
        ..StatusDetails::default()
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl FieldErrors {
    /// Fails with [`StatusError::invalid`] if there are errors.
    pub(crate) fn into_result(self, kind: Kind, name: &str) -> Result<(), StatusError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(StatusError::invalid(kind, name, &self))
    }
}

fn invalid_message(qualified: &str, name: &str, errors: &FieldErrors) -> String {
    // Like `field.ErrorList.ToAggregate`, the message has each error once, while the causes repeat them.
    let mut texts: Vec<String> = Vec::new();
    for error in errors.iter() {
        let text = format!("{}: {}", error.field, error.message);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let list = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    format!("{qualified} \"{name}\" is invalid: {list}")
}

fn precondition_message(what: &str, wanted: &str, actual: &str) -> String {
    format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}")
}

fn causes(errors: &FieldErrors) -> Vec<StatusCause> {
    let cause = |error: &FieldError| StatusCause {
        reason: Some(error.reason.to_owned()),
        message: Some(error.message.clone()),
        field: Some(error.field.clone()),
    };
    errors.iter().map(cause).collect()
}
