//! Captures what `kube` drops from a response: warnings, `Retry-After`, and whether the body is complete.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::{Frame, SizeHint};
use kube::client::Body;
use tower::util::MapResponseLayer;
use tower::{Layer, Service};

use super::Client;

/// Limits on the warnings of one call, because an admission policy may send long ones.
const MAX_WARNINGS: usize = 10;
const MAX_WARNING: usize = 1000;

/// What the response headers of one call contain.
#[derive(Debug, Default)]
pub(super) struct CapturedHeaders {
    pub warnings: Vec<String>,
    pub retry_after: Option<Duration>,
}

tokio::task_local! {
    static HEADERS: RefCell<CapturedHeaders>;
    static BODY_END: BodyEnd;
}

/// Records whether a response body arrived completely. `kube` ends a watch in the same way if its connection is cut.
#[derive(Debug, Clone, Default)]
pub(crate) struct BodyEnd(Arc<AtomicBool>);

impl BodyEnd {
    /// Whether the body is complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Runs a call, and records here when its response body ends.
    pub(crate) async fn track<T>(&self, call: impl Future<Output = T>) -> T {
        BODY_END.scope(self.clone(), call).await
    }
}

/// Runs a call and returns the captured response headers with its result.
pub(super) async fn capture_headers<T>(call: impl Future<Output = T>) -> (T, CapturedHeaders) {
    let scope = HEADERS.scope(RefCell::default(), async {
        let result = call.await;
        (result, HEADERS.with(RefCell::take))
    });
    scope.await
}

/// A client for a Kubernetes API in this process, with captured responses.
pub fn client<S, B>(service: S, namespace: &str) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tower::BoxError>,
{
    Client::new(capture_layer().layer(service), namespace)
}

/// A layer that captures responses. It finds the caller through task-locals, because the caller itself polls the future
/// of its request.
pub(super) fn capture_layer<B>() -> MapResponseLayer<impl Fn(Response<B>) -> Response<TrackedBody<B>> + Clone> {
    MapResponseLayer::new(|response: Response<B>| {
        // Watches and log streams set no scope.
        let _ = HEADERS.try_with(|captured| captured.borrow_mut().record(response.headers()));
        let end = BODY_END.try_with(BodyEnd::clone).ok();
        response.map(|body| TrackedBody { body, end })
    })
}

/// A body that records its end.
#[derive(Debug)]
pub(crate) struct TrackedBody<B> {
    body: B,
    end: Option<BodyEnd>,
}

impl<B: http_body::Body + Unpin> http_body::Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let (None, Some(end)) = (&frame, &self.end) {
            end.0.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // Only `poll_frame` records the end, so the caller must poll until then.
        self.end.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl CapturedHeaders {
    fn record(&mut self, headers: &HeaderMap) {
        let seconds = headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        self.retry_after = seconds.map(Duration::from_secs);
        let texts = headers.get_all(header::WARNING).iter();
        let texts = texts.filter_map(|value| warning(std::str::from_utf8(value.as_bytes()).ok()?));
        self.warnings.extend(texts.take(MAX_WARNINGS));
    }
}

/// The text in a `Warning` header of the form `299 - "text"` (<https://kubernetes.io/blog/2020/09/03/warnings/>).
fn warning(value: &str) -> Option<String> {
    let (_, quoted) = value.split_once('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(text),
            '\\' => text.extend(characters.next()),
            other if text.len() < MAX_WARNING => text.push(other),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Response;
    use http_body_util::{BodyExt, Full, StreamBody};
    use tower::{Layer, Service, ServiceExt, service_fn};

    use super::{BodyEnd, TrackedBody, capture_headers, capture_layer, warning};

    #[tokio::test]
    async fn an_answer_that_is_cut_has_not_come_to_its_end() {
        let end = BodyEnd::default();
        let track = |body| TrackedBody {
            body,
            end: Some(end.clone()),
        };
        let cut = futures::stream::iter([Ok(http_body::Frame::data(bytes::Bytes::new())), Err("cut")]);
        assert!(track(StreamBody::new(cut)).collect().await.is_err() && !end.is_complete());
        let whole = TrackedBody {
            body: Full::new(bytes::Bytes::from_static(b"all")),
            end: Some(end.clone()),
        };
        assert!(whole.collect().await.is_ok() && end.is_complete());
    }

    #[test]
    fn a_warning_is_unquoted() {
        assert_eq!(
            warning(r#"299 - "unknown field \"spec.x\"""#).unwrap(),
            r#"unknown field "spec.x""#
        );
        assert_eq!(warning("299 - nothing"), None);
        assert_eq!(warning(r#"299 - "open"#), None);
    }

    #[tokio::test]
    async fn a_call_hears_its_own_headers_only() {
        let answer = service_fn(|request: u8| async move {
            let response = Response::builder().header("warning", format!("299 - \"of {request}\""));
            Ok::<_, std::convert::Infallible>(response.header("retry-after", u64::from(request)).body(()).unwrap())
        });
        let mut service = capture_layer().layer(answer);
        let (_, first) = capture_headers(service.ready().await.unwrap().call(1)).await;
        let (_, second) = capture_headers(service.ready().await.unwrap().call(2)).await;
        assert_eq!(
            (first.warnings, first.retry_after),
            (vec!["of 1".to_owned()], Some(Duration::from_secs(1)))
        );
        assert_eq!(
            (second.warnings, second.retry_after),
            (vec!["of 2".to_owned()], Some(Duration::from_secs(2)))
        );
    }
}
