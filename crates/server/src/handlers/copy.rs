//! Responses that are generated for one client. A large one holds a share of the memory budget until the client has
//! read it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::response::Response;
use http_body::{Body as _, Frame, SizeHint};

use crate::error::ApiError;
use crate::limits::Limits;
use crate::room::{Room, Sender};

/// A body that holds its memory. hyper drops a body once the rest of it fits hyper's own write buffer.
struct Held {
    body: Body,
    _room: Room,
}

/// Takes memory for a response of known length if it is large. Fails with [`ApiError::Busy`] if clients that don't read
/// their responses have used up the budget.
pub fn answer(limits: &Limits, sender: &Sender, answer: Response) -> Result<Response, ApiError> {
    let bytes = answer.body().size_hint().upper().unwrap_or(u64::MAX);
    let room = limits.room_for_copy(sender, usize::try_from(bytes).unwrap_or(usize::MAX))?;
    Ok(match room {
        Some(room) => answer.map(|body| Body::new(Held { body, _room: room })),
        None => answer,
    })
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::response::{IntoResponse, Response};
    use http_body_util::BodyExt;

    use super::answer;
    use crate::caller::Client;
    use crate::error::ApiError;
    use crate::limits::Limits;
    use crate::room::Sender;

    const MIB: usize = 1 << 20;

    fn answers(limits: &Limits, client: u8, bytes: usize) -> Result<Response, ApiError> {
        let client = Client::Address([192, 0, 2, client].into());
        let sender = Sender { client, user: None };
        answer(limits, &sender, vec![b'1'; bytes].into_response())
    }

    #[tokio::test]
    async fn copies_that_are_not_read_are_limited() {
        let limits = Limits::new(1, 1);
        let unread: Vec<_> = (0..3).map(|_| answers(&limits, 1, 16 * MIB).unwrap()).collect();
        assert!(matches!(answers(&limits, 1, MIB), Err(ApiError::Busy(_))));
        assert!(answers(&limits, 1, 1000).is_ok(), "a small response needs no budget");
        let other = answers(&limits, 2, 16 * MIB).unwrap();
        assert!(
            matches!(answers(&limits, 2, MIB), Err(ApiError::Busy(_))),
            "the budget is used up"
        );
        for answer in unread {
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), 16 * MIB);
        }
        assert!(
            answers(&limits, 1, MIB).is_ok(),
            "a response that was read frees its share"
        );
        drop(other);
    }
}
