//! Extracts the task or volume ID from the path.

use axum::extract::FromRequestParts;
use http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// The second segment of the path, decoded. Any text is accepted here; what cannot be an ID is later not found.
pub(crate) struct ResourceId(pub String);

impl<S: Sync> FromRequestParts<S> for ResourceId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let segment = parts.uri.path().split('/').nth(2).unwrap_or_default();
        let id = percent_decode_str(segment).decode_utf8_lossy().into_owned();
        // FastAPI treats an encoded slash as a separator too, and no route has that many segments.
        if id.contains('/') {
            return Err(ApiError::NotFound("Not Found".to_owned()));
        }
        Ok(Self(id))
    }
}
