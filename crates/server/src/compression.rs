//! Compresses responses for clients that ask for it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};
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

/// Middleware that compresses responses, unless the client does not ask for it or too many are being compressed.
pub(crate) async fn compress<R>(
    limit: &CompressionLimit,
    mut request: Request,
    mut next: impl FnMut(Request) -> R + Send,
) -> Response
where
    R: Future<Output = Response> + Send,
{
    ignore_refusals(request.headers_mut());
    if !request.headers().contains_key(header::ACCEPT_ENCODING) {
        return next(request).await;
    }
    let limited = service_fn(|request| next(request).map(|response| Ok::<_, Infallible>(limit.hold(response))));
    let predicate = is_worth_compressing().and(|_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| {
        extensions.get::<SentAsIs>().is_none()
    });
    let compressing = CompressionLayer::new().compress_when(predicate).layer(limited);
    // In a box, because its state is large, and would be a part of that of every request.
    let Ok(response) = Box::pin(compressing.oneshot(request)).await;
    response.map(Body::new)
}

/// What to compress. Logs are text, and each of their lines and each event must be sent at once.
fn is_worth_compressing() -> impl Predicate {
    SizeAbove::new(MIN_COMPRESSED_BYTES)
        .and(NotForContentType::new("text/plain"))
        .and(NotForContentType::SSE)
}

impl CompressionLimit {
    /// Counts a response that will be compressed, or marks it to be sent as it is.
    fn hold(&self, mut response: Response) -> Response {
        if !is_worth_compressing().should_compress(&response) {
            return response;
        }
        if let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() {
            // The compression layer keeps the body as long as its encoder.
            return response.map(|body| Body::new(HeldBody::new(body, permit)));
        }
        response.extensions_mut().insert(SentAsIs);
        response
    }
}

/// Ignores whether a client refuses a response that is not compressed. The compression layer would replace the status
/// of what was done by 406, while HTTP lets a server ignore the header (RFC 9110, 12.5.3).
fn ignore_refusals(headers: &mut HeaderMap) {
    if !headers.contains_key(header::ACCEPT_ENCODING) {
        return;
    }
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let is_compression = |coding: &&str| {
        let name = coding.split(';').next().unwrap_or_default().trim();
        !name.is_empty() && name != "*" && !name.eq_ignore_ascii_case("identity")
    };
    let rest = codings.filter(is_compression).collect::<Vec<_>>().join(",");
    match HeaderValue::from_str(&rest) {
        Ok(rest) if !rest.is_empty() => drop(headers.insert(header::ACCEPT_ENCODING, rest)),
        _ => drop(headers.remove(header::ACCEPT_ENCODING)),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::{IntoResponse, Response};
    use http::{Request, StatusCode, header};

    use super::{CompressionLimit, MAX_COMPRESSED_RESPONSES, compress};

    async fn send(limit: &CompressionLimit, accept_encoding: &str) -> Response {
        let request = Request::post("/").header(header::ACCEPT_ENCODING, accept_encoding);
        let large = |_| async { (StatusCode::CREATED, "1".repeat(100_000).into_bytes()).into_response() };
        compress(limit, request.body(Body::empty()).unwrap(), large).await
    }

    fn encoding(response: &Response) -> Option<&str> {
        let encoding = response.headers().get(header::CONTENT_ENCODING)?;
        Some(encoding.to_str().unwrap())
    }

    #[tokio::test]
    async fn no_accept_encoding_hides_the_status_of_what_was_done() {
        let limit = CompressionLimit::default();
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
            let response = send(&limit, accepted).await;
            assert_eq!(response.status(), StatusCode::CREATED, "{accepted}");
            assert_eq!(encoding(&response), expected, "{accepted}");
        }
    }

    #[tokio::test]
    async fn only_so_many_unread_responses_are_compressed() {
        let limit = CompressionLimit::default();
        let mut unread = Vec::new();
        for _ in 0..MAX_COMPRESSED_RESPONSES {
            unread.push(send(&limit, "gzip").await);
        }
        assert!(unread.iter().all(|response| encoding(response) == Some("gzip")));
        assert_eq!(encoding(&send(&limit, "gzip").await), None);
        unread.pop();
        assert_eq!(encoding(&send(&limit, "gzip").await), Some("gzip"));
    }
}
