//! Every failure of a request, and the one place that makes it an answer and logs it.

use std::backtrace::Backtrace;
use std::error::Error as _;

use axum::Json;
use axum::response::{IntoResponse, Response};
use executor::Error;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use task::ErrorDetail;
use task::validation::Location;

/// Why a request gets no other answer.
#[derive(Debug)]
pub enum ApiError {
    /// The request is wrong in these ways.
    Invalid(Vec<ErrorDetail>),
    /// The request is not to be understood.
    BadRequest(&'static str),
    /// Who asks, or what for, is not answered here.
    Forbidden(String),
    /// There is no such thing for this user.
    NotFound(String),
    /// The body has more bytes than this.
    TooLarge(usize),
    /// The body took too long to arrive.
    TooSlow,
    /// The user has too much open.
    TooMany(String),
    /// The server has too much to do.
    Busy(String),
    /// The executor failed.
    Executor {
        /// What was tried, as in `Failed to {operation}`.
        operation: &'static str,
        /// For whom.
        user: String,
        /// Why it failed.
        source: Error,
    },
}

/// The answer of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Invalid(errors) => invalid(&errors),
            Self::BadRequest(detail) => detailed(StatusCode::BAD_REQUEST, detail),
            Self::Forbidden(detail) => detailed(StatusCode::FORBIDDEN, &detail),
            Self::NotFound(detail) => detailed(StatusCode::NOT_FOUND, &detail),
            Self::TooLarge(limit) => detailed(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("the body has more than {limit} bytes"),
            ),
            Self::TooSlow => detailed(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
            Self::TooMany(detail) => later(detailed(StatusCode::TOO_MANY_REQUESTS, &detail)),
            Self::Busy(detail) => later(detailed(StatusCode::SERVICE_UNAVAILABLE, &detail)),
            Self::Executor {
                operation,
                user,
                source,
            } => executor_error(operation, &user, &source),
        }
    }
}

/// The caller's mistakes are told to the caller; ours are told to the caller and logged.
fn executor_error(operation: &'static str, user: &str, error: &Error) -> Response {
    match error {
        Error::VolumeNotFound { path, volume } => {
            let loc = ["body", "volumes", path].map(Location::from);
            invalid(&[ErrorDetail::refused(loc, error.to_string(), json!(volume))])
        }
        Error::IdempotencyKeyReused | Error::IdempotencyKeyTaken | Error::IdempotencyKeyTerminating => {
            detailed(StatusCode::CONFLICT, &error.to_string())
        }
        // Nothing of ours failed, and while the API server is away every request ends here.
        Error::OutOfSync { .. } => {
            tracing::warn!(operation, user, %error, "request failed");
            failed(operation, error)
        }
        Error::NoCluster
        | Error::Configuration { .. }
        | Error::Kubernetes { .. }
        | Error::Timeout { .. }
        | Error::NeverInSync { .. }
        | Error::MissingRights { .. }
        | Error::NoNamespace { .. }
        | Error::PodSecurity { .. }
        | Error::NameTaken { .. }
        | Error::NoFreeId { .. }
        | Error::SubmitDeadline { .. }
        | Error::StopAll { .. }
        | Error::Encoding { .. }
        | Error::Internal { .. } => {
            let causes = causes(error);
            let backtrace = Backtrace::force_capture();
            tracing::error!(operation, user, %error, causes, %backtrace, "request failed");
            failed(operation, error)
        }
    }
}

fn failed(operation: &str, error: &Error) -> Response {
    detailed(
        StatusCode::INTERNAL_SERVER_ERROR,
        &format!("Failed to {operation}: {error}"),
    )
}

fn causes(error: &Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    causes.join(": ")
}

/// An answer in FastAPI's shape.
pub fn detailed(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

fn invalid(errors: &[ErrorDetail]) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": errors }))).into_response()
}

fn later(mut response: Response) -> Response {
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

    use super::ApiError;

    fn status(source: Error) -> u16 {
        let error = ApiError::Executor {
            operation: "submit task",
            user: "alice".to_owned(),
            source,
        };
        error.into_response().status().as_u16()
    }

    #[test]
    fn the_callers_mistakes_are_not_ours() {
        let volume = Error::VolumeNotFound {
            path: "/data".to_owned(),
            volume: "x".to_owned(),
        };
        assert_eq!(status(volume), 422);
        assert_eq!(status(Error::IdempotencyKeyReused), 409);
        assert_eq!(
            status(Error::OutOfSync {
                since: Duration::ZERO,
                reason: String::new()
            }),
            500
        );
        assert_eq!(status(Error::NoFreeId { tries: 1 }), 500);
        assert_eq!(ApiError::TooLarge(1).into_response().status(), 413);
        assert_eq!(
            ApiError::Busy(String::new()).into_response().headers()["retry-after"],
            "1"
        );
    }
}
