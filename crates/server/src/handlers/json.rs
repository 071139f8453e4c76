//! Responses of encoded JSON.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::Serialize;

use crate::conditional::ContentHash;
use crate::error::{ApiError, ApiResult};

/// A response with an encoded JSON body.
pub(crate) fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Encodes a body whose changes clients may poll for.
pub(crate) fn pollable_response(body: &impl Serialize) -> ApiResult<Response> {
    let json = serde_json::to_vec(body).map_err(ApiError::Encoding)?;
    let hash = ContentHash::of_body(&json);
    Ok(with_hash(json_response(json.into()), hash))
}

/// Adds the hash of the body, from which the `ETag` is made.
pub(crate) fn with_hash(mut response: Response, hash: ContentHash) -> Response {
    response.extensions_mut().insert(hash);
    response
}
