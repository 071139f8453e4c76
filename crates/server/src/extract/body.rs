//! Reads a JSON request body and reports errors as FastAPI does.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use task::ErrorDetail;
use task::validation::LocItem;
use tokio::time::{Instant, timeout_at};

use crate::client::Requester;
use crate::error::ApiError;
use crate::limits::{BODY_TIMEOUT, MAX_BODY_BYTES, MAX_BODY_VALUES, RequestLimits, SMALL_BODY_BYTES, time_allowed};
use crate::memory_budget::MemoryPermit;

/// A request body that has been read completely.
pub(crate) struct ReceivedBody {
    bytes: Bytes,
    is_json: bool,
    /// The share of the memory budget that a large body holds until it is parsed.
    _memory: Option<MemoryPermit>,
}

/// Reads the whole body, within the limits on size, time, and memory.
pub(crate) async fn receive_body(
    limits: &RequestLimits,
    requester: &Requester,
    headers: &HeaderMap,
    body: Body,
) -> Result<ReceivedBody, ApiError> {
    if let Some(encoding) = content_encoding(headers) {
        return Err(ApiError::UnsupportedEncoding(encoding));
    }
    let (bytes, memory) = collect_frames(limits, requester, body, MAX_BODY_BYTES).await?;
    Ok(ReceivedBody {
        bytes,
        is_json: is_json(headers),
        _memory: memory,
    })
}

/// Reads a body that is not JSON, within other limits on its size. The memory stays taken as long as the bytes are in use.
pub(crate) async fn receive_bytes(
    limits: &RequestLimits,
    requester: &Requester,
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Result<Bytes, ApiError> {
    if let Some(encoding) = content_encoding(headers) {
        return Err(ApiError::UnsupportedEncoding(encoding));
    }
    let (bytes, memory) = collect_frames(limits, requester, body, max_bytes).await?;
    Ok(Bytes::from_owner(HeldBytes { bytes, _memory: memory }))
}

/// Bytes and their share of the memory budget.
struct HeldBytes {
    bytes: Bytes,
    _memory: Option<MemoryPermit>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The encoding of a body that is compressed. Decompressing is not worth it: a body is small, and would have to be
/// protected against decompression bombs.
fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut encodings = encodings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    encodings.find(|encoding| !encoding.trim().eq_ignore_ascii_case("identity"))
}

/// Whether a body may be large. A chunked body does not declare its length, so it counts as large.
pub(crate) fn is_large(body: &Body) -> bool {
    let max_bytes = body.size_hint().upper();
    max_bytes.is_none_or(|bytes| bytes > SMALL_BODY_BYTES as u64)
}

async fn collect_frames(
    limits: &RequestLimits,
    requester: &Requester,
    mut body: Body,
    max_bytes: usize,
) -> Result<(Bytes, Option<MemoryPermit>), ApiError> {
    if body.size_hint().lower() > max_bytes as u64 {
        // Polling the body would tell a client that sends `Expect: 100-continue` to go on.
        return Err(ApiError::PayloadTooLarge(max_bytes));
    }
    let expected = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let expected = expected.map_or(max_bytes, |bytes| bytes.min(max_bytes));
    let mut received = BytesMut::new();
    let mut deadline = Instant::now() + BODY_TIMEOUT;
    let mut memory = None;
    loop {
        // A body that holds memory must also keep up a minimum rate. Otherwise stalled clients could hold the whole
        // budget until the deadline.
        let due = match &memory {
            Some((_, since)) => deadline.min(*since + time_allowed(received.len())),
            None => deadline,
        };
        let next = timeout_at(due, body.frame())
            .await
            .map_err(|_| ApiError::RequestTimeout)?;
        let Some(frame) = next else {
            return Ok((received.freeze(), memory.map(|(permit, _)| permit)));
        };
        let frame = frame.map_err(|_| ApiError::BadRequest("There was an error parsing the body"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let bytes = received.len() + data.len();
        if bytes > max_bytes {
            return Err(ApiError::PayloadTooLarge(max_bytes));
        }
        if bytes > SMALL_BODY_BYTES && memory.is_none() {
            // Take memory once for the whole body: two bodies that each hold a part would wait for each other forever.
            let start = Instant::now();
            let permit = limits.acquire_body_memory(requester, expected).await?;
            // Waiting for memory is not the client's fault, so extend its deadline.
            deadline += start.elapsed();
            memory = Some((permit, Instant::now()));
        }
        received.extend_from_slice(&data);
    }
}

/// Decodes a body and parses it with `parse`. A large body is parsed on a blocking thread, so that it does not hold up
/// the other requests of an async worker.
///
/// The outer error means the body is not the JSON that its content type declares; the inner errors are those of
/// `parse`.
pub(crate) async fn parse_body<T: Send + 'static>(
    received: ReceivedBody,
    parse: impl FnOnce(&Value) -> Result<T, Vec<ErrorDetail>> + Send + 'static,
) -> Result<Result<T, Vec<ErrorDetail>>, ApiError> {
    let is_small = received.bytes.len() <= SMALL_BODY_BYTES;
    let work = move || {
        let missing = || ErrorDetail::new("missing", [LocItem::from("body")], "Field required", Value::Null);
        Ok(match received.decode()? {
            Some(body) => parse(&body),
            None => Err(vec![missing()]),
        })
    };
    if is_small {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(parsed) => parsed,
        // Resume the panic, so that the router's panic handler logs and answers it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl ReceivedBody {
    /// The decoded body: a JSON value, a string if the content type is not JSON, or `None` if the body is empty.
    fn decode(&self) -> Result<Option<Value>, ApiError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        if !self.is_json {
            return Ok(Some(String::from_utf8_lossy(&self.bytes).into()));
        }
        let text = std::str::from_utf8(&self.bytes);
        let text = text.map_err(|_| ApiError::BadRequest("There was an error parsing the body"))?;
        if has_too_many_values(text) {
            let reason = format!("the body exceeds the limit of {MAX_BODY_VALUES} JSON values");
            let loc = [LocItem::from("body")];
            return Err(ApiError::Invalid(vec![ErrorDetail::value_error(
                loc,
                reason,
                Value::Null,
            )]));
        }
        match serde_json::from_str(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(ApiError::Invalid(vec![syntax_error(text, &error)])),
        }
    }
}

/// Whether a JSON text contains more values than any valid task. Parsed values take many times the memory of the text,
/// so this is checked before parsing.
fn has_too_many_values(text: &str) -> bool {
    let mut count = 1;
    let mut is_in_string = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_in_string = !is_in_string,
            b'\\' if is_in_string => drop(bytes.next()),
            b',' | b'[' | b'{' if !is_in_string => count += 1,
            _ => {}
        }
    }
    count > MAX_BODY_VALUES
}

/// Whether the content type is `application/json` or `application/*+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    match essence.strip_prefix("application/") {
        Some(subtype) => subtype == "json" || subtype.ends_with("+json"),
        None => false,
    }
}

/// Reports the position as a character offset from the start, as Python does.
fn syntax_error(text: &str, error: &serde_json::Error) -> ErrorDetail {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    // serde_json's columns count bytes, and the invalid byte is the last one it read.
    let offset = (line_start + error.column().saturating_sub(1)).min(text.len());
    let characters = text.char_indices().take_while(|(index, _)| *index < offset).count();
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message);
    let loc = [LocItem::from("body"), LocItem::from(characters)];
    let mut detail = ErrorDetail::new("json_invalid", loc, "JSON decode error", json!({}));
    detail.ctx = Some(json!({ "error": reason }));
    detail
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;
    use futures::StreamExt;
    use http::{HeaderMap, HeaderValue, header};
    use serde_json::{Value, json};
    use task::UserName;
    use tokio::time::Instant;

    use super::{has_too_many_values, is_large, parse_body, receive_body, syntax_error};
    use crate::client::{ClientId, Requester};
    use crate::error::ApiError;
    use crate::limits::{BODY_STALL_TIMEOUT, BODY_TIMEOUT, MAX_BODY_VALUES, RequestLimits};

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

    #[test]
    fn values_are_counted_and_punctuation_in_texts_is_not() {
        assert!(!has_too_many_values(&json!({"run": "[{,".repeat(100_000)}).to_string()));
        assert!(!has_too_many_values(
            &json!({"run": "\\\",".repeat(100_000)}).to_string()
        ));
        assert!(!has_too_many_values(&json!(vec![0; MAX_BODY_VALUES - 2]).to_string()));
        assert!(has_too_many_values(&json!(vec![0; MAX_BODY_VALUES]).to_string()));
        assert!(has_too_many_values(&"[".repeat(MAX_BODY_VALUES)));
    }

    #[tokio::test]
    async fn a_body_of_very_many_values_is_refused_before_it_is_parsed() {
        let limits = RequestLimits::new(1, 1);
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let body = json!(vec![json!([]); MAX_BODY_VALUES]).to_string();
        let received = receive_body(&limits, &requester(1), &headers, Body::from(body))
            .await
            .unwrap();
        let Err(ApiError::Invalid(errors)) = parse_body(received, |_| -> Result<(), _> { panic!("parsed") }).await
        else {
            panic!("accepted");
        };
        assert_eq!(errors.len(), 1);
    }

    /// A requester with its own client and user.
    fn requester(number: u8) -> Requester {
        Requester {
            client: ClientId::Address([192, 0, 2, number].into()),
            user: UserName::from_bytes(&[b'a' + number]).ok(),
        }
    }

    /// A body that sends slightly more than a small body has, and then stalls.
    fn stalled() -> Body {
        let begun = futures::stream::iter([Ok::<_, Infallible>(vec![b' '; 17_000])]);
        Body::from_stream(begun.chain(futures::stream::pending()))
    }

    #[tokio::test]
    async fn large_bodies_share_a_budget_and_small_ones_do_not_wait_for_it() {
        let limits = RequestLimits::new(1, 1);
        let headers = HeaderMap::new();
        let body = |bytes: usize| Body::from(vec![b' '; bytes]);
        let mut held = Vec::new();
        for number in 0..8 {
            held.push(
                receive_body(&limits, &requester(number), &headers, body(4 << 20))
                    .await
                    .unwrap(),
            );
        }
        let other = requester(9);
        let mut waiting = std::pin::pin!(receive_body(&limits, &other, &headers, body(1 << 20)));
        assert!(futures::poll!(&mut waiting).is_pending(), "the budget is used up");
        assert!(receive_body(&limits, &other, &headers, body(1000)).await.is_ok());
        held.pop();
        assert!(waiting.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_is_told_to_come_again_and_not_that_it_was_slow() {
        let limits = RequestLimits::new(1, 1);
        let headers = HeaderMap::new();
        let mut held = Vec::new();
        for number in 0..8 {
            let body = Body::from(vec![b' '; 4 << 20]);
            held.push(receive_body(&limits, &requester(number), &headers, body).await.unwrap());
        }
        let start = Instant::now();
        let refused = receive_body(&limits, &requester(9), &headers, Body::from(vec![b' '; 1 << 20])).await;
        assert!(
            matches!(refused, Err(ApiError::Unavailable(_))),
            "the budget is used up"
        );
        assert!(start.elapsed() < BODY_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn one_clients_stalled_bodies_hold_nobody_up_and_are_given_up() {
        let limits = RequestLimits::new(1, 1);
        let headers = HeaderMap::new();
        let attacker = requester(1);
        let start = Instant::now();
        let mut stalling: Vec<_> = (0..8)
            .map(|_| Box::pin(receive_body(&limits, &attacker, &headers, stalled())))
            .collect();
        for body in &mut stalling {
            assert!(futures::poll!(body).is_pending());
        }
        let body = Body::from(vec![b' '; 4 << 20]);
        assert!(receive_body(&limits, &requester(2), &headers, body).await.is_ok());
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits for them");
        let first = stalling.remove(0).await;
        assert!(matches!(first, Err(ApiError::RequestTimeout)));
        assert!(start.elapsed() <= BODY_STALL_TIMEOUT, "{:?}", start.elapsed());
    }

    #[test]
    fn a_body_that_does_not_say_how_long_it_is_is_not_known_to_be_small() {
        assert!(is_large(&stalled()));
        assert!(is_large(&Body::from(vec![b' '; 17_000])));
        assert!(!is_large(&Body::from("{}")) && !is_large(&Body::empty()));
    }
}
