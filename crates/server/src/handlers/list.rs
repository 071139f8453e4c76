//! The body of a list response, assembled while the client reads it.
//!
//! The cache holds every item as encoded JSON, which all responses share. A client that reads slowly therefore costs
//! one pointer per item and one chunk of memory, not a copy of the list.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use serde_json::json;

use super::json::json_response;

/// Approximate size of a chunk: about as much as one write takes.
const CHUNK_BYTES: usize = 64 * 1024;

/// `{"name":[item,...]}`, or `{"name":[item,...],"next_cursor":...}`.
struct ListBody {
    prefix: String,
    suffix: String,
    items: Vec<Bytes>,
    /// Number of items already sent.
    sent: usize,
    /// Number of bytes not yet sent.
    bytes_left: usize,
}

/// A JSON response with all items in an array named `name`. Its length is known, so it is not sent chunked.
pub(crate) fn list_response(name: &str, items: Vec<Bytes>) -> Response {
    response(name, items, "]}".to_owned())
}

/// A page of such a list. `next_cursor` is null on the last page.
pub(crate) fn page_response(name: &str, items: Vec<Bytes>, next_cursor: Option<&str>) -> Response {
    response(name, items, format!("],\"next_cursor\":{}}}", json!(next_cursor)))
}

fn response(name: &str, items: Vec<Bytes>, suffix: String) -> Response {
    let prefix = format!("{{\"{name}\":[");
    let commas = items.len().saturating_sub(1);
    let bytes_left = prefix.len() + items.iter().map(Bytes::len).sum::<usize>() + commas + suffix.len();
    let list = ListBody {
        prefix,
        suffix,
        items,
        sent: 0,
        bytes_left,
    };
    json_response(Body::new(list))
}

impl ListBody {
    fn next_chunk(&mut self) -> Bytes {
        let mut chunk = BytesMut::with_capacity(self.bytes_left.min(CHUNK_BYTES));
        if self.sent == 0 {
            chunk.put_slice(self.prefix.as_bytes());
        }
        while chunk.len() < CHUNK_BYTES {
            let Some(item) = self.items.get(self.sent) else {
                chunk.put_slice(self.suffix.as_bytes());
                break;
            };
            if self.sent > 0 {
                chunk.put_u8(b',');
            }
            chunk.put_slice(item);
            self.sent += 1;
        }
        self.bytes_left = self.bytes_left.saturating_sub(chunk.len());
        chunk.freeze()
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.bytes_left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.next_chunk()))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes_left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes_left as u64)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Body;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::{CHUNK_BYTES, list_response};

    #[tokio::test]
    async fn a_list_is_one_document_of_the_length_it_says() {
        let item = |at: usize| json!({"id": at, "text": "x".repeat(at % 200)});
        for count in [0, 1, 2, 5000] {
            let items = (0..count).map(|at| Bytes::from(item(at).to_string())).collect();
            let body = list_response("tasks", items).into_body();
            let length = body.size_hint().exact().unwrap();
            let text = body.collect().await.unwrap().to_bytes();
            assert_eq!(text.len() as u64, length);
            let expected: Vec<Value> = (0..count).map(item).collect();
            assert_eq!(
                serde_json::from_slice::<Value>(&text).unwrap(),
                json!({"tasks": expected})
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_read_is_not_copied() {
        let item = Bytes::from(vec![b'1'; 10_000]);
        let mut body = list_response("tasks", vec![item; 1000]).into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first.len() < CHUNK_BYTES + 10_001, "{}", first.len());
    }
}
