//! Reads request bodies.

use axum::body::Body;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::object::Kind;
use crate::status_error::StatusError;

/// Maximum size of a request body in bytes; kube-apiserver's limit.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// Reads a body of at most [`MAX_BODY`] bytes.
pub(super) async fn read_body(body: Body) -> Result<Vec<u8>, StatusError> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(StatusError::too_large(MAX_BODY)),
        Err(error) => Err(StatusError::bad_request(format!(
            "failed to read the request body: {error}"
        ))),
    }
}

/// Reads an object of a kind from the body.
pub(super) async fn read_object(body: Body, headers: &HeaderMap, kind: Kind) -> Result<Value, StatusError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type
        .unwrap_or("application/json")
        .split(';')
        .next()
        .unwrap_or_default();
    match content_type.trim() {
        "application/json" | "*/*" | "" => {}
        "application/vnd.kubernetes.protobuf" => return Err(StatusError::protobuf()),
        _ => return Err(StatusError::unsupported_media_type("application/json")),
    }
    let bytes = read_body(body).await?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        StatusError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {error}",
            kind.name()
        ))
    })?;
    check_type(&value, kind)?;
    Ok(value)
}

pub(super) fn check_type(value: &Value, kind: Kind) -> Result<(), StatusError> {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let (version, name) = (text("apiVersion"), text("kind"));
    if !version.is_empty() && version != kind.api_version() {
        return Err(StatusError::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            kind.api_version()
        )));
    }
    if !name.is_empty() && name != kind.name() {
        return Err(StatusError::bad_request(format!(
            "no kind \"{name}\" is registered for version \"{}\" at this path; expected \"{}\"",
            kind.api_version(),
            kind.name()
        )));
    }
    if !value.is_object() {
        return Err(StatusError::bad_request("the object provided is unrecognized"));
    }
    Ok(())
}
