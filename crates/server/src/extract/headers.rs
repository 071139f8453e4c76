//! Reads the `X-User` and `Idempotency-Key` headers.

use http::HeaderMap;
use serde_json::{Value, json};
use task::user::decode;
use task::validation::LocItem;
use task::{ErrorDetail, UserName};

/// The maximum length of an idempotency key; a UUID has 36 characters.
pub(crate) const MAX_IDEMPOTENCY_KEY: usize = 255;

/// The pattern of an idempotency key, for the OpenAPI document; [`idempotency_key`] implements the rule, and HTTP strips
/// spaces at either end.
pub(crate) const IDEMPOTENCY_KEY_PATTERN: &str = r"^[!-~]([\t -~]*[!-~])?$";

/// Reads the user, or reports why the header is invalid.
pub(crate) fn user(headers: &HeaderMap, errors: &mut Vec<ErrorDetail>) -> Option<UserName> {
    match parse_user(headers.get_all("x-user").iter().map(http::HeaderValue::as_bytes)) {
        Ok(user) => Some(user),
        Err(error) => {
            errors.push(*error);
            None
        }
    }
}

/// Parses the values of all `X-User` headers of a request. There must be a single one: with several, a proxy and this
/// server could read different users.
fn parse_user<'h>(mut values: impl Iterator<Item = &'h [u8]>) -> Result<UserName, Box<ErrorDetail>> {
    let loc = || ["header", "x-user"].map(LocItem::from);
    let Some(bytes) = values.next() else {
        let detail = ErrorDetail::new("missing", loc(), "Field required", Value::Null);
        return Err(Box::new(detail));
    };
    let input = || json!(decode(bytes));
    if values.next().is_some() {
        let detail = ErrorDetail::value_error(loc(), "expected a single X-User header", input());
        return Err(Box::new(detail));
    }
    UserName::from_bytes(bytes).map_err(|error| Box::new(error.detail(loc(), input())))
}

/// Reads the key that identifies repetitions of the same request.
pub(crate) fn idempotency_key(headers: &HeaderMap, errors: &mut Vec<ErrorDetail>) -> Option<String> {
    let mut values = headers.get_all("idempotency-key").iter();
    let value = values.next()?;
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let is_single = values.next().is_none();
    if is_single && !text.is_empty() && text.len() <= MAX_IDEMPOTENCY_KEY && value.to_str().is_ok() {
        return Some(text);
    }
    let reason = if is_single {
        format!("an idempotency key must be 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters")
    } else {
        "expected a single Idempotency-Key header".to_owned()
    };
    let loc = ["header", "idempotency-key"].map(LocItem::from);
    errors.push(ErrorDetail::value_error(loc, reason, json!(text)));
    None
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::{IDEMPOTENCY_KEY_PATTERN, idempotency_key, parse_user};

    fn kind(values: &[&[u8]]) -> &'static str {
        parse_user(values.iter().copied()).map_or_else(|detail| detail.kind, |_| "ok")
    }

    #[test]
    fn a_header_is_one_exact_name() {
        for name in ["a@b", "x,y", "x=y", "a b", "日本", "'; drop"] {
            assert_eq!(parse_user([name.as_bytes()].into_iter()).unwrap().as_str(), name);
        }
        assert_eq!(parse_user([&b"caf\xe9"[..]].into_iter()).unwrap().as_str(), "café");
    }

    #[test]
    fn what_names_nobody_is_refused() {
        assert_eq!(kind(&[]), "missing");
        assert_eq!(kind(&[b""]), "string_too_short");
        assert_eq!(kind(&[&[b'a'; 257]]), "value_error");
        assert_eq!(kind(&[b"a\tb"]), "value_error");
        assert_eq!(kind(&[b"a", b"b"]), "value_error");
        assert_eq!(kind(&[&[b'a'; 256]]), "ok");
    }

    #[test]
    fn there_is_one_key() {
        let name = http::HeaderName::from_static("idempotency-key");
        let value = |text| HeaderValue::from_static(text);
        let headers = HeaderMap::from_iter([(name.clone(), value("a")), (name, value("b"))]);
        let mut errors = Vec::new();
        assert_eq!(idempotency_key(&headers, &mut errors), None);
        assert_eq!(errors.len(), 1);
    }

    #[test]
    fn the_documents_pattern_of_a_key_is_the_rule() {
        let pattern = regex::Regex::new(IDEMPOTENCY_KEY_PATTERN).unwrap();
        for character in (0_u8..=255).map(char::from) {
            let key = format!("a{character}b");
            let value = HeaderValue::from_bytes(key.as_bytes());
            let accepted = value.is_ok_and(|value| {
                let headers = HeaderMap::from_iter([(http::HeaderName::from_static("idempotency-key"), value)]);
                idempotency_key(&headers, &mut Vec::new()).is_some()
            });
            assert_eq!(accepted, pattern.is_match(&key), "{key:?}");
        }
    }

    #[test]
    fn an_error_names_the_header_and_repeats_its_value() {
        let error = |values: &[&[u8]]| serde_json::to_value(parse_user(values.iter().copied()).unwrap_err()).unwrap();
        assert_eq!(
            error(&[b""]),
            json!({
                "type": "string_too_short", "loc": ["header", "x-user"], "input": "",
                "msg": "String should have at least 1 character", "ctx": {"min_length": 1},
            })
        );
        assert_eq!(
            error(&[b"a", b"b"]),
            json!({
                "type": "value_error", "loc": ["header", "x-user"], "input": "a",
                "msg": "Value error, expected a single X-User header",
                "ctx": {"error": "expected a single X-User header"},
            })
        );
    }
}
