//! Responses that are generated for one client. A large one holds a share of the memory budget until the client has
//! read it.

use axum::body::Body;
use axum::response::Response;
use http_body::Body as _;

use crate::client::Requester;
use crate::error::ApiError;
use crate::held_body::HeldBody;
use crate::limits::RequestLimits;

/// Takes memory for a response of known length if it is large. Fails with [`ApiError::Unavailable`] if clients that
/// don't read their responses have used up the budget.
pub(crate) fn budgeted_response(
    limits: &RequestLimits,
    requester: &Requester,
    response: Response,
) -> Result<Response, ApiError> {
    let bytes = response.body().size_hint().upper().unwrap_or(u64::MAX);
    let memory = limits.try_acquire_response_memory(requester, usize::try_from(bytes).unwrap_or(usize::MAX))?;
    Ok(match memory {
        Some(memory) => response.map(|body| Body::new(HeldBody::new(body, memory))),
        None => response,
    })
}

#[cfg(test)]
mod tests {
    use axum::response::{IntoResponse, Response};
    use http_body_util::BodyExt;

    use super::budgeted_response;
    use crate::client::{ClientId, Requester};
    use crate::error::ApiError;
    use crate::limits::RequestLimits;

    const MIB: usize = 1 << 20;

    fn respond(limits: &RequestLimits, client: u8, bytes: usize) -> Result<Response, ApiError> {
        let client = ClientId::Address([192, 0, 2, client].into());
        let requester = Requester { client, user: None };
        budgeted_response(limits, &requester, vec![b'1'; bytes].into_response())
    }

    #[tokio::test]
    async fn copies_that_are_not_read_are_limited() {
        let limits = RequestLimits::new(1, 1);
        let unread: Vec<_> = (0..3).map(|_| respond(&limits, 1, 16 * MIB).unwrap()).collect();
        assert!(matches!(respond(&limits, 1, MIB), Err(ApiError::Unavailable(_))));
        assert!(respond(&limits, 1, 1000).is_ok(), "a small response needs no budget");
        let other = respond(&limits, 2, 16 * MIB).unwrap();
        assert!(
            matches!(respond(&limits, 2, MIB), Err(ApiError::Unavailable(_))),
            "the budget is used up"
        );
        for response in unread {
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), 16 * MIB);
        }
        assert!(
            respond(&limits, 1, MIB).is_ok(),
            "a response that was read frees its share"
        );
        drop(other);
    }
}
