//! Properties that hold for every request to the engine and for every line that a task writes into its log file. The
//! targets in `fuzz/` search for inputs that violate them.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{Request, header};
use serde_json::Value;
use tower::ServiceExt;

use crate::container::parse_record;
use crate::kubectl::strategic_merge;
use crate::object::{Kind, Object};
use crate::selector::{FieldSelector, LabelSelector, Selection};
use crate::{ControlPlane, NodeCapacity};

/// Maximum number of requests in one input.
const MAX_REQUESTS: usize = 16;

/// How long the controllers continue after the last request, in simulated time.
const AFTERWARDS: Duration = Duration::from_secs(3600);

/// Label and field selectors: parsing either fails or returns a selector that can be matched.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let labels = LabelSelector::parse(text);
    for kind in Kind::ALL {
        let selection = Selection::of(&Object::new(kind, Value::Null));
        let fields = FieldSelector::parse(kind, text);
        let _ = fields.is_ok_and(|selector| selector.matches(&selection));
        if let Ok(selector) = &labels {
            assert!(!selector.is_empty() || selector.matches(&selection));
        }
    }
}

/// An object followed by a strategic merge patch: applying the patch a second time must not change anything.
pub fn patches(data: &[u8]) {
    let mut values = serde_json::Deserializer::from_slice(data).into_iter::<Value>();
    let (Some(Ok(old)), Some(Ok(patch))) = (values.next(), values.next()) else {
        return;
    };
    let mut once = old;
    if strategic_merge(&mut once, &patch).is_err() || has_directive(&patch) {
        return;
    }
    let mut twice = once.clone();
    assert!(strategic_merge(&mut twice, &patch).is_ok());
    assert_eq!(once, twice);
}

/// Whether the patch has directives to delete, replace, or order list entries. Those are not idempotent.
fn has_directive(patch: &Value) -> bool {
    match patch {
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.starts_with('$') || has_directive(value)),
        Value::Array(values) => values.iter().any(has_directive),
        _ => false,
    }
}

/// Lines of a container's log file.
pub fn log_records(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(record) = parse_record(line) {
            assert!(record.time.len() + record.content.len() < line.len());
        }
    }
}

/// Requests to an empty engine, separated by empty lines: `METHOD /path?query [content/type]`, with the body on the
/// lines below. None of them may cause an internal error, either right away or in the controllers later.
pub fn requests(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let requests: Vec<_> = text.split("\n\n").filter_map(request).take(MAX_REQUESTS).collect();
    if requests.is_empty() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime
        .expect("a runtime of one thread starts")
        .block_on(answer(requests));
}

fn request(text: &str) -> Option<Request<Body>> {
    let (head, body) = text.split_once('\n').unwrap_or((text, ""));
    let mut words = head.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    Request::builder()
        .method(method)
        .uri(target)
        .header(header::CONTENT_TYPE, words.next().unwrap_or("application/json"))
        .body(Body::from(body.to_owned()))
        .ok()
        .filter(|request| !request.uri().query().is_some_and(is_endless))
}

/// Whether the response may never end, as that of a watch or of a log that is followed. Escapes could hide either word.
fn is_endless(query: &str) -> bool {
    query.contains("watch") || query.contains("follow") || query.contains('%')
}

async fn answer(requests: Vec<Request<Body>>) {
    let clock = clock::Clock::simulated(jiff::Timestamp::UNIX_EPOCH);
    let plane = ControlPlane::start(clock, 1, NodeCapacity::default()).await;
    let plane = plane.expect("an engine in memory starts");
    for request in requests {
        let told = format!("{} {}", request.method(), request.uri());
        let Ok::<_, std::convert::Infallible>(answer) = plane.router().oneshot(request).await;
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap_or_default();
        assert_ne!(
            status,
            http::StatusCode::INTERNAL_SERVER_ERROR,
            "{told}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    tokio::time::sleep(AFTERWARDS).await;
    plane.stop();
}
