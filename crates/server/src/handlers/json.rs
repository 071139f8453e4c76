//! Responses of JSON that is already encoded.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};

/// A response with an encoded JSON body.
pub fn json_response(body: Body) -> Response {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
