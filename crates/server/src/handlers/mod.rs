//! Request handlers, one module per resource.

mod copy;
pub mod docs;
pub mod health;
mod list;
pub mod logs;
pub mod nodes;
pub mod tasks;
pub mod volumes;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};

/// The ID of the task or volume that a request created, for the request's log line.
#[derive(Debug, Clone)]
pub struct Subject(pub String);

/// A response of JSON that is already encoded.
fn json(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
