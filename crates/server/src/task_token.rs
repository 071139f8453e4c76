//! Finds the token of a task in the headers of a request.

use http::{HeaderMap, header};
use task::Id;

/// The number of characters of the secret in a token.
const SECRET_LENGTH: usize = 64;

/// The token of a task in a request: `ID.SECRET`. Others, e.g., that of a proxy for its own users, are not ours to check.
pub(crate) fn task_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let (id, secret) = token.split_once('.')?;
    let is_token =
        Id::is_valid(id) && secret.len() == SECRET_LENGTH && secret.bytes().all(|byte| byte.is_ascii_hexdigit());
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::task_token;

    #[test]
    fn a_token_is_that_of_a_bearer_and_has_the_form_of_ours() {
        let found = |value: &str| {
            let value = HeaderValue::from_str(value).unwrap();
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            task_token(&headers).map(str::to_owned)
        };
        let token = format!("abcd1234.{}", "5".repeat(64));
        assert_eq!(found(&format!("Bearer {token}")), Some(token.clone()));
        assert_eq!(found(&format!("bearer  {token}")), Some(token.clone()));
        for other in [
            format!("Basic {token}"),
            token.clone(),
            "Bearer a.b".to_owned(),
            format!("Bearer {token}.x"),
        ] {
            assert_eq!(found(&other), None, "{other}");
        }
        assert_eq!(task_token(&HeaderMap::new()), None);
    }
}
