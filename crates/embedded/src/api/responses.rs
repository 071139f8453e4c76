//! Builds HTTP responses.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::status_error::StatusError;

pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    with_content_type(status, "application/json", Body::from(body.into()))
}

pub(super) fn value(status: StatusCode, value: &impl Serialize) -> Response {
    // Serializing JSON values and the types of the API never fails.
    json(status, serde_json::to_vec(value).unwrap_or_default())
}

pub(super) fn with_content_type(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn status_error(error: StatusError) -> Response {
    value(error.code, &error.into_status())
}

/// The response of health checks.
pub(super) fn ok() -> Response {
    with_content_type(StatusCode::OK, "text/plain; charset=utf-8", Body::from("ok"))
}

/// Adds warnings as `Warning` headers, which `kubectl` prints.
pub(super) fn add_warnings(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(text) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, text);
        }
    }
}
