//! Compresses responses for clients that ask for it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

use crate::held_body::HeldBody;

/// The smallest body that is compressed: a smaller one fits into one packet anyway.
const MIN_COMPRESSED_BYTES: u64 = 1024;

/// Maximum number of compressed responses that clients have not read yet. An encoder takes up to 1.3 MB, which no other
/// limit counts, and its work delays other requests.
const MAX_COMPRESSED_RESPONSES: usize = 16;

/// Marks a response that is sent as it is, because too many are being compressed.
#[derive(Debug, Clone, Copy)]
struct SentAsIs;

/// Limits the number of responses that are compressed at a time.
#[derive(Debug, Clone)]
pub(crate) struct CompressionLimit(Arc<Semaphore>);

impl Default for CompressionLimit {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_COMPRESSED_RESPONSES)))
    }
}

/// The layer that compresses.
pub(crate) fn compress() -> CompressionLayer<impl Predicate> {
    CompressionLayer::new().compress_when(is_worth_compressing().and(
        |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| extensions.get::<SentAsIs>().is_none(),
    ))
}

/// What to compress. Logs are text, and each of their lines must be sent at once.
fn is_worth_compressing() -> impl Predicate {
    SizeAbove::new(MIN_COMPRESSED_BYTES).and(NotForContentType::new("text/plain"))
}

/// Middleware within the compression layer: sends a response as it is if too many are being compressed.
pub(crate) async fn limit_compression(
    State(CompressionLimit(permits)): State<CompressionLimit>,
    request: Request,
    next: Next,
) -> Response {
    let is_asked_for = request.headers().contains_key(header::ACCEPT_ENCODING);
    let mut response = next.run(request).await;
    if !is_asked_for || !is_worth_compressing().should_compress(&response) {
        return response;
    }
    if let Ok(permit) = permits.try_acquire_owned() {
        // The compression layer keeps the body as long as its encoder.
        return response.map(|body| Body::new(HeldBody::new(body, permit)));
    }
    response.extensions_mut().insert(SentAsIs);
    response
}

/// Middleware around the compression layer: ignores whether a client refuses a response that is not compressed. The layer
/// would replace the status of what was done by 406, while HTTP lets a server ignore the header (RFC 9110, 12.5.3).
pub(crate) async fn ignore_refusals(mut request: Request, next: Next) -> Response {
    let values = request.headers().get_all(header::ACCEPT_ENCODING).iter();
    let codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let is_compression = |coding: &&str| {
        let name = coding.split(';').next().unwrap_or_default().trim();
        !name.is_empty() && name != "*" && !name.eq_ignore_ascii_case("identity")
    };
    let rest = codings.filter(is_compression).collect::<Vec<_>>().join(",");
    match HeaderValue::from_str(&rest) {
        Ok(rest) if !rest.is_empty() => drop(request.headers_mut().insert(header::ACCEPT_ENCODING, rest)),
        _ => drop(request.headers_mut().remove(header::ACCEPT_ENCODING)),
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::{from_fn, from_fn_with_state};
    use axum::response::Response;
    use axum::routing::post;
    use http::{Request, StatusCode, header};
    use tower::ServiceExt;

    use super::{CompressionLimit, MAX_COMPRESSED_RESPONSES, compress, ignore_refusals, limit_compression};

    fn routes() -> Router {
        let large = || async { (StatusCode::CREATED, "1".repeat(100_000).into_bytes()) };
        Router::new()
            .route("/", post(large))
            .layer(from_fn_with_state(CompressionLimit::default(), limit_compression))
            .layer(compress())
            .layer(from_fn(ignore_refusals))
    }

    async fn send(routes: &Router, accept_encoding: &str) -> Response {
        let request = Request::post("/").header(header::ACCEPT_ENCODING, accept_encoding);
        let response = routes.clone().oneshot(request.body(Body::empty()).unwrap()).await;
        response.unwrap()
    }

    fn encoding(response: &Response) -> Option<&str> {
        let encoding = response.headers().get(header::CONTENT_ENCODING)?;
        Some(encoding.to_str().unwrap())
    }

    #[tokio::test]
    async fn no_accept_encoding_hides_the_status_of_what_was_done() {
        let routes = routes();
        for (accepted, expected) in [
            ("identity;q=0", None),
            ("*;q=0", None),
            ("br, *;q=0", None),
            ("gzip;q=0", None),
            ("*", None),
            ("", None),
            ("gzip, identity;q=0", Some("gzip")),
            ("identity, zstd", Some("zstd")),
        ] {
            let response = send(&routes, accepted).await;
            assert_eq!(response.status(), StatusCode::CREATED, "{accepted}");
            assert_eq!(encoding(&response), expected, "{accepted}");
        }
    }

    #[tokio::test]
    async fn only_so_many_unread_responses_are_compressed() {
        let routes = routes();
        let mut unread = Vec::new();
        for _ in 0..MAX_COMPRESSED_RESPONSES {
            unread.push(send(&routes, "gzip").await);
        }
        assert!(unread.iter().all(|response| encoding(response) == Some("gzip")));
        assert_eq!(encoding(&send(&routes, "gzip").await), None);
        unread.pop();
        assert_eq!(encoding(&send(&routes, "gzip").await), Some("gzip"));
    }
}
