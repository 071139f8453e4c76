//! Records a log line, a counter, and a duration for each request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use metrics::{Counter, Histogram};
use task::Id;
use task::user::{MAX_BYTES as MAX_USER_BYTES, decode};
use task::wire::SERVER_HEADER;

/// The longest `X-Request-Id` that is accepted from a client.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// The longest part of an ID in a path that is logged.
const MAX_LOGGED_ID_BYTES: usize = 64;

const REQUEST_ID_HEADER: &str = "x-request-id";

/// The ID of the task or volume that a request created, for its log line. Stored in the extensions of the response.
#[derive(Debug, Clone)]
pub(crate) struct CreatedId(pub String);

/// Assigns the request an ID, runs it, and logs and measures the outcome.
pub(crate) async fn trace_request(request: Request, next: impl AsyncFnOnce(Request) -> Response) -> Response {
    let start = Instant::now();
    let request_id = request_id(request.headers());
    let method = request.method().clone();
    // Label metrics with the route, never with the path: one label value per task ID would grow without bound.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let user = logged_user(request.headers());
    let uri = request.uri().clone();

    let mut response = next(request).await;

    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let status = response.status().as_u16();
    let elapsed = start.elapsed();
    let method_label = method_label(&method);
    count_request(route, method_label, status, elapsed);
    let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let id = match response.extensions().get::<CreatedId>() {
        Some(CreatedId(id)) => Some(id.as_str()),
        None => path_id(route, uri.path()).map(logged_id),
    };
    let (task_id, volume_id) = if route.starts_with("/volumes") {
        (None, id)
    } else {
        (id, None)
    };
    let user = user.as_deref();
    tracing::info!(event = "request", request_id, user, operation = route, %method, task_id, volume_id, status, duration_us, "request");
    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
    response.headers_mut().insert(SERVER_HEADER, version);
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
}

/// The client's request ID if it is short and safe to log, otherwise a random one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    let is_safe = |text: &&str| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    match given.filter(is_safe) {
        Some(given) => given.to_owned(),
        None => Id::random().to_string(),
    }
}

/// The user in a header. A valid name is short; other requests must not fill the log.
fn logged_user(headers: &HeaderMap) -> Option<String> {
    let user = headers.get("x-user")?.as_bytes();
    Some(decode(&user[..user.len().min(MAX_USER_BYTES)]))
}

/// The start of an ID in a path: a valid one is short.
fn logged_id(id: &str) -> &str {
    &id[..id.floor_char_boundary(MAX_LOGGED_ID_BYTES)]
}

fn path_id<'p>(route: &str, path: &'p str) -> Option<&'p str> {
    route.contains('{').then(|| path.split('/').nth(2)).flatten()
}

/// Maps unknown methods to `other`: HTTP allows any token as a method, and a client could create unlimited label
/// values.
fn method_label(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::POST => "POST",
        http::Method::DELETE => "DELETE",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::HEAD => "HEAD",
        http::Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The metrics of the requests with one route, method, and status.
struct RequestMetrics {
    count: Counter,
    seconds: Histogram,
}

/// The metrics of one route, by method and status.
type RouteMetrics = HashMap<(&'static str, u16), RequestMetrics>;

thread_local! {
    /// The metrics by route. Looking them up by their names and labels would allocate
    /// these for each request. There are few: all labels are bounded.
    static METRICS: RefCell<HashMap<String, RouteMetrics>> = RefCell::default();
}

fn count_request(route: &str, method: &'static str, status: u16, elapsed: Duration) {
    METRICS.with_borrow_mut(|routes| {
        if !routes.contains_key(route) {
            routes.insert(route.to_owned(), HashMap::new());
        }
        let Some(of_route) = routes.get_mut(route) else { return };
        let metrics = of_route.entry((method, status)).or_insert_with(|| RequestMetrics {
            count: metrics::counter!(
                "k8s_cli_http_requests_total",
                "route" => route.to_owned(), "method" => method, "status" => status.to_string()
            ),
            seconds: metrics::histogram!("k8s_cli_http_request_seconds", "route" => route.to_owned()),
        });
        metrics.count.increment(1);
        metrics.seconds.record(elapsed.as_secs_f64());
    });
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{MAX_LOGGED_ID_BYTES, logged_id, logged_user};

    #[test]
    fn no_request_fills_the_log() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_bytes(&[0xff; 60_000]).unwrap());
        assert!(logged_user(&headers).unwrap().len() < 1000);
        headers.insert("x-user", HeaderValue::from_static("alice"));
        assert_eq!(logged_user(&headers).unwrap(), "alice");
        assert_eq!(logged_id("abcd1234"), "abcd1234");
        assert!(logged_id(&"\u{e9}".repeat(10_000)).len() <= MAX_LOGGED_ID_BYTES);
    }
}
