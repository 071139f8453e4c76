//! A JSON body, as FastAPI reads one.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use task::ErrorDetail;
use task::validation::Location;
use tokio::time::timeout;

use crate::error::ApiError;
use crate::limits::{BODY_TIMEOUT, MAX_BODY_BYTES};

/// What a body says.
pub enum Content {
    /// There is none.
    Missing,
    /// A value; text when the content type is not JSON.
    Value(Value),
}

/// Reads the whole body.
///
/// # Errors
/// It is too large, too slow, or not JSON although it says so.
pub async fn read(headers: &HeaderMap, body: Body) -> Result<Content, ApiError> {
    let bytes = timeout(BODY_TIMEOUT, collect(body))
        .await
        .map_err(|_| ApiError::TooSlow)??;
    if bytes.is_empty() {
        return Ok(Content::Missing);
    }
    if !is_json(headers) {
        return Ok(Content::Value(String::from_utf8_lossy(&bytes).into()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| ApiError::BadRequest("There was an error parsing the body"))?;
    match serde_json::from_str(text) {
        Ok(value) => Ok(Content::Value(value)),
        Err(error) => Err(ApiError::Invalid(vec![syntax_error(text, &error)])),
    }
}

async fn collect(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge(MAX_BODY_BYTES)),
        Err(_) => Err(ApiError::BadRequest("There was an error parsing the body")),
    }
}

/// `application/json`, and `application/something+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    match essence.strip_prefix("application/") {
        Some(subtype) => subtype == "json" || subtype.ends_with("+json"),
        None => false,
    }
}

/// Says where, in characters from the start, as Python does.
fn syntax_error(text: &str, error: &serde_json::Error) -> ErrorDetail {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    // Columns count bytes, and the one that is wrong is the last that was read.
    let offset = (line_start + error.column().saturating_sub(1)).min(text.len());
    let characters = text.char_indices().take_while(|(index, _)| *index < offset).count();
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message);
    let loc = [Location::from("body"), Location::from(characters)];
    let mut detail = ErrorDetail::new("json_invalid", loc, "JSON decode error", json!({}));
    detail.ctx = Some(json!({ "error": reason }));
    detail
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::syntax_error;

    fn position(text: &str) -> Value {
        let error = serde_json::from_str::<Value>(text).unwrap_err();
        serde_json::to_value(syntax_error(text, &error)).unwrap()["loc"][1].clone()
    }

    #[test]
    fn the_place_of_a_syntax_error_is_counted_in_characters() {
        assert_eq!(position("{a:1}"), json!(1));
        assert_eq!(position("{\"name\": \"éé\", \"run\": }"), json!(22));
        assert_eq!(position("{\n  \"name\": \"a\",\n  \"run\": \n}"), json!(27));
        assert_eq!(position("{\"run\": NaN}"), json!(8));
    }
}
