//! Extracts the `X-User` and `Idempotency-Key` headers.

use http::HeaderMap;
use serde_json::json;
use task::validation::Location;
use task::{ErrorDetail, UserName};

/// The maximum length of an idempotency key; a UUID has 36 characters.
const MAX_KEY: usize = 255;

/// Reads the user, or reports why the header is invalid.
pub fn user(headers: &HeaderMap, errors: &mut Vec<ErrorDetail>) -> Option<UserName> {
    let values = headers.get_all("x-user").iter().map(http::HeaderValue::as_bytes);
    match UserName::from_headers(values) {
        Ok(user) => Some(user),
        Err(error) => {
            errors.push(*error);
            None
        }
    }
}

/// Reads the key that identifies repetitions of the same request.
pub fn idempotency_key(headers: &HeaderMap, errors: &mut Vec<ErrorDetail>) -> Option<String> {
    let value = headers.get("idempotency-key")?;
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    if !text.is_empty() && text.len() <= MAX_KEY && value.to_str().is_ok() {
        return Some(text);
    }
    let reason = format!("an idempotency key must be 1 to {MAX_KEY} visible ASCII characters");
    let loc = ["header", "idempotency-key"].map(Location::from);
    errors.push(ErrorDetail::refused(loc, reason, json!(text)));
    None
}
