//! The errors of requests, and the only place that converts them into responses and logs them.

use std::backtrace::Backtrace;
use std::error::Error as _;

use axum::Json;
use axum::response::{IntoResponse, Response};
use executor::Error;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use task::validation::LocItem;
use task::{ErrorDetail, UserName};

/// An error that ends a request.
#[derive(Debug)]
pub enum ApiError {
    /// The request is invalid; lists every error.
    Invalid(Vec<ErrorDetail>),
    /// The request cannot be parsed.
    BadRequest(&'static str),
    /// The client or the host it names is not allowed.
    Forbidden(String),
    /// The task, volume, or route does not exist, or belongs to another user.
    NotFound(String),
    /// The body exceeds this number of bytes.
    PayloadTooLarge(usize),
    /// The body was not received in time.
    RequestTimeout,
    /// The body is compressed in this way.
    UnsupportedEncoding(String),
    /// The user has reached a limit.
    TooManyRequests(String),
    /// The server has reached a limit.
    Unavailable(String),
    /// The response cannot be encoded.
    Encoding(serde_json::Error),
    /// The token of a task could not be checked.
    Token(Error),
    /// The executor failed.
    Executor {
        /// What failed, as in `Failed to {operation}`.
        operation: &'static str,
        user: UserName,
        source: Error,
    },
}

impl ApiError {
    /// The executor failed to do `operation` for `user`.
    pub fn executor(operation: &'static str, user: &UserName, source: Error) -> Self {
        Self::Executor {
            operation,
            user: user.clone(),
            source,
        }
    }
}

/// The result of a handler.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Invalid(errors) => validation_error_response(&errors),
            Self::BadRequest(detail) => error_response(StatusCode::BAD_REQUEST, detail),
            Self::Forbidden(detail) => error_response(StatusCode::FORBIDDEN, &detail),
            Self::NotFound(detail) => error_response(StatusCode::NOT_FOUND, &detail),
            Self::PayloadTooLarge(limit) => error_response(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the request body exceeds the limit of {limit} bytes"),
            ),
            Self::RequestTimeout => error_response(StatusCode::REQUEST_TIMEOUT, "timed out reading the request body"),
            Self::UnsupportedEncoding(encoding) => unsupported_encoding_response(&encoding),
            Self::TooManyRequests(detail) => with_retry_after(error_response(StatusCode::TOO_MANY_REQUESTS, &detail)),
            Self::Unavailable(detail) => with_retry_after(error_response(StatusCode::SERVICE_UNAVAILABLE, &detail)),
            Self::Encoding(error) => {
                tracing::error!(%error, "cannot encode a response");
                error_response(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the response")
            }
            Self::Token(source) => executor_error_response("check the token of a task", "", &source),
            Self::Executor {
                operation,
                user,
                source,
            } => executor_error_response(operation, user.as_str(), &source),
        }
    }
}

/// Client errors are only returned; server errors are also logged, with their causes and a backtrace.
fn executor_error_response(operation: &'static str, user: &str, error: &Error) -> Response {
    if let Some(detail) = invalid_task(error) {
        return validation_error_response(&[detail]);
    }
    match error {
        Error::CancelConflict
        | Error::FilesInUse { .. }
        | Error::IdempotencyKeyReused
        | Error::IdempotencyKeyTaken
        | Error::IdempotencyKeyTerminating => error_response(StatusCode::CONFLICT, &error.to_string()),
        Error::Archive { source } if is_full(source) => {
            error_response(StatusCode::INSUFFICIENT_STORAGE, &error.to_string())
        }
        Error::FilesFull { .. } => error_response(StatusCode::INSUFFICIENT_STORAGE, &error.to_string()),
        Error::FilesBusy | Error::Stopping => {
            with_retry_after(error_response(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()))
        }
        Error::LogDeleted { .. } => error_response(StatusCode::NOT_FOUND, &error.to_string()),
        // Log no backtrace: nothing in this process failed, and every request ends here while kube-apiserver is down.
        Error::OutOfSync { .. } => {
            tracing::warn!(operation, user, %error, "request failed");
            executor_failure_response(operation, error)
        }
        Error::NoCluster
        | Error::InGroup { .. }
        | Error::VolumeNotFound { .. }
        | Error::VolumeNotShared { .. }
        | Error::PodConfig { .. }
        | Error::PodConfigRejected { .. }
        | Error::Unplaceable { .. }
        | Error::FilesNotStored { .. }
        | Error::FilesTooLarge { .. }
        | Error::FilesElsewhere { .. }
        | Error::OutputsNotKept { .. }
        | Error::CopyElsewhere { .. }
        | Error::CannotCopy { .. }
        | Error::Files { .. }
        | Error::Configuration { .. }
        | Error::Kubernetes { .. }
        | Error::Timeout { .. }
        | Error::InitialSyncTimeout { .. }
        | Error::MissingPermissions { .. }
        | Error::NamespaceNotFound { .. }
        | Error::PodSecurity { .. }
        | Error::NameTaken { .. }
        | Error::NoFreeId { .. }
        | Error::SubmitDeadline { .. }
        | Error::StopAll { .. }
        | Error::CancelAll { .. }
        | Error::NodesForbidden
        | Error::Archive { .. }
        | Error::Encoding { .. }
        | Error::Internal { .. } => {
            let causes = join_causes(error);
            let backtrace = Backtrace::force_capture();
            tracing::error!(operation, user, %error, causes, %backtrace, "request failed");
            executor_failure_response(operation, error)
        }
    }
}

/// Whether the store, or a user's share of it, has no room.
fn is_full(error: &archive::Error) -> bool {
    matches!(
        error,
        archive::Error::Full | archive::Error::FilesFull { .. } | archive::Error::TooManyFiles { .. }
    )
}

/// The place in the request of what the executor rejects, or `None` for other errors.
fn invalid_task(error: &Error) -> Option<ErrorDetail> {
    let at = |loc: &[&str], input: Value| {
        let loc = ["body"].iter().chain(loc).map(|key| LocItem::from(*key));
        Some(ErrorDetail::value_error(loc, error.to_string(), input))
    };
    match error {
        Error::VolumeNotFound { key, path, volume, .. } | Error::VolumeNotShared { key, path, volume, .. } => {
            at(&[key, path], json!(volume))
        }
        Error::PodConfig { loc, reason } => {
            let loc = loc.iter().cloned();
            Some(ErrorDetail::value_error(loc, reason.as_str(), json!(null)))
        }
        Error::PodConfigRejected { .. } => at(&["config", "kubernetes", "pod_config"], json!(null)),
        Error::Unplaceable { .. } => at(&["resources"], json!(null)),
        Error::FilesElsewhere { path } => at(&["files", path], json!(null)),
        Error::OutputsNotKept { .. } => at(&["outputs"], json!(null)),
        Error::CopyElsewhere { path } => at(&["file_mounts", path], json!(null)),
        Error::CannotCopy { .. } => at(&["file_mounts"], json!(null)),
        Error::FilesNotStored { .. } | Error::FilesTooLarge { .. } => at(&["files"], json!(null)),
        Error::InGroup { index, source } => {
            let mut detail = invalid_task(source)?;
            detail.loc.splice(1..1, [LocItem::from("tasks"), LocItem::from(*index)]);
            Some(detail)
        }
        _ => None,
    }
}

fn executor_failure_response(operation: &str, error: &Error) -> Response {
    error_response(
        StatusCode::INTERNAL_SERVER_ERROR,
        &format!("Failed to {operation}: {error}"),
    )
}

fn join_causes(error: &Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    causes.join(": ")
}

/// An error response in FastAPI's format.
pub(crate) fn error_response(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

fn validation_error_response(errors: &[ErrorDetail]) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": errors }))).into_response()
}

/// `Accept-Encoding` in a response says what a request may use: <https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3>.
fn unsupported_encoding_response(encoding: &str) -> Response {
    let detail = format!("unsupported Content-Encoding `{encoding}`; send the body uncompressed");
    let mut response = error_response(StatusCode::UNSUPPORTED_MEDIA_TYPE, &detail);
    response
        .headers_mut()
        .insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    response
}

fn with_retry_after(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse;
    use executor::Error;
    use task::UserName;

    use super::ApiError;

    fn status(source: Error) -> u16 {
        let user = UserName::parse("alice").unwrap();
        ApiError::executor("submit task", &user, source)
            .into_response()
            .status()
            .as_u16()
    }

    #[test]
    fn the_callers_mistakes_are_not_ours() {
        let volume = Error::VolumeNotFound {
            key: "volumes",
            for_many: false,
            path: "/data".into(),
            volume: "x".to_owned(),
        };
        assert_eq!(status(volume), 422);
        assert_eq!(status(Error::Unplaceable { reasons: Vec::new() }), 422);
        assert_eq!(status(Error::IdempotencyKeyReused), 409);
        assert_eq!(
            status(Error::OutOfSync {
                since: Duration::ZERO,
                reason: String::new()
            }),
            500
        );
        assert_eq!(status(Error::NoFreeId { tries: 1 }), 500);
        assert_eq!(ApiError::PayloadTooLarge(1).into_response().status(), 413);
        assert_eq!(
            ApiError::Unavailable(String::new()).into_response().headers()["retry-after"],
            "1"
        );
    }
}
