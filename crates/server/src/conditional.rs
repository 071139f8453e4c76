//! Conditional requests: `ETag`, `If-None-Match`, and status 304, so that a client that polls transfers only changes.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

/// A hash of the body of a response. Handlers store it in the extensions of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentHash(u64);

impl ContentHash {
    /// Combines the hashes of the parts of a body.
    pub(crate) fn of_parts(hashes: impl Iterator<Item = u64>) -> Self {
        let mut hasher = DefaultHasher::new();
        for hash in hashes {
            hasher.write_u64(hash);
        }
        Self(hasher.finish())
    }

    /// Hashes a body.
    pub(crate) fn of_body(body: &[u8]) -> Self {
        Self(BuildHasherDefault::<DefaultHasher>::new().hash_one(body))
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }

    /// The hash as an entity tag. It is weak, because the same content may be sent compressed.
    fn tag(self) -> String {
        format!("W/\"{:016x}\"", self.0)
    }
}

/// Middleware that adds an `ETag` to responses with a [`ContentHash`], and answers with 304 if the client has the same
/// content already.
pub(crate) async fn answer_conditionally(request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let known: Vec<HeaderValue> = request
        .headers()
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .cloned()
        .collect();
    let mut response = next(request).await;
    let Some(hash) = response.extensions().get::<ContentHash>().copied() else {
        return response;
    };
    let tag = hash.tag();
    if known.iter().any(|known| names_tag(known, &tag)) {
        // The other headers stay: without those of CORS, a browser would withhold the response from the page.
        let (mut parts, _) = response.into_parts();
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        parts.headers.remove(header::CONTENT_LENGTH);
        response = Response::from_parts(parts, Body::empty());
    }
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    // A cache must ask each time, and must not give one user the response of another.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("x-user"));
    response
}

/// Whether a value of `If-None-Match` names this tag. The header is compared weakly.
fn names_tag(value: &HeaderValue, tag: &str) -> bool {
    let known = value.to_str().unwrap_or_default().split(',').map(str::trim);
    known.map(opaque).any(|known| known == "*" || known == opaque(tag))
}

/// The tag without the mark of a weak tag.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::Response;
    use http::{Request, StatusCode, header};

    use super::{ContentHash, answer_conditionally};

    async fn send(body: &'static str, if_none_match: Option<&str>) -> Response {
        let handler = async |_| {
            let mut response = Response::new(Body::from(body));
            let origin = header::HeaderValue::from_static("https://ui.example");
            response
                .headers_mut()
                .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            response.extensions_mut().insert(ContentHash::of_body(body.as_bytes()));
            response
        };
        let mut request = Request::builder().uri("/");
        if let Some(tags) = if_none_match {
            request = request.header(header::IF_NONE_MATCH, tags);
        }
        answer_conditionally(request.body(Body::empty()).unwrap(), handler).await
    }

    #[tokio::test]
    async fn only_a_client_that_has_the_same_content_gets_304() {
        let first = send("tasks", None).await;
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        let strong = tag.strip_prefix("W/").unwrap();
        for known in [tag.as_str(), strong, "*", &format!("\"other\", {tag}")] {
            let response = send("tasks", Some(known)).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(response.headers()[header::ETAG], tag);
            assert_eq!(
                response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN],
                "https://ui.example"
            );
        }
        for known in ["\"other\"", "", "tasks"] {
            assert_eq!(send("tasks", Some(known)).await.status(), StatusCode::OK, "{known}");
        }
        assert_eq!(send("other tasks", Some(&tag)).await.status(), StatusCode::OK);
    }
}
