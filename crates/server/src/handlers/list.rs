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
use http::{HeaderValue, header};
use http_body::{Frame, SizeHint};

/// Approximate size of a chunk: about as much as one write takes.
const PIECE_BYTES: usize = 64 * 1024;

const END: &[u8] = b"]}";

/// `{"name":[item,...]}`.
struct List {
    begin: String,
    items: Vec<Bytes>,
    /// Number of items already sent.
    given: usize,
    /// Number of bytes not yet sent.
    left: usize,
}

/// A JSON response with all items in an array named `name`. Its length is known, so it is not sent chunked.
pub fn answer(name: &str, items: Vec<Bytes>) -> Response {
    let begin = format!("{{\"{name}\":[");
    let commas = items.len().saturating_sub(1);
    let left = begin.len() + items.iter().map(Bytes::len).sum::<usize>() + commas + END.len();
    let list = List {
        begin,
        items,
        given: 0,
        left,
    };
    let mut response = Response::new(Body::new(list));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl List {
    fn piece(&mut self) -> Bytes {
        let mut piece = BytesMut::with_capacity(self.left.min(PIECE_BYTES));
        if self.given == 0 {
            piece.put_slice(self.begin.as_bytes());
        }
        while piece.len() < PIECE_BYTES {
            let Some(item) = self.items.get(self.given) else {
                piece.put_slice(END);
                break;
            };
            if self.given > 0 {
                piece.put_u8(b',');
            }
            piece.put_slice(item);
            self.given += 1;
        }
        self.left = self.left.saturating_sub(piece.len());
        piece.freeze()
    }
}

impl http_body::Body for List {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(self.piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Body;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::{PIECE_BYTES, answer};

    #[tokio::test]
    async fn a_list_is_one_document_of_the_length_it_says() {
        let item = |at: usize| json!({"id": at, "text": "x".repeat(at % 200)});
        for count in [0, 1, 2, 5000] {
            let items = (0..count).map(|at| Bytes::from(item(at).to_string())).collect();
            let body = answer("tasks", items).into_body();
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
        let mut body = answer("tasks", vec![item; 1000]).into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first.len() < PIECE_BYTES + 10_001, "{}", first.len());
    }
}
