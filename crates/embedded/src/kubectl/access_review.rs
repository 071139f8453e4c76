//! Access reviews: whether the user may do something, as `kubectl auth can-i` asks.

use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SubjectAccessReviewStatus};

use crate::status_error::StatusError;

/// Allows everything: the engine has a single user, and no RBAC.
pub(crate) fn review_access(body: &[u8]) -> Result<SelfSubjectAccessReview, StatusError> {
    let mut review: SelfSubjectAccessReview =
        serde_json::from_slice(body).map_err(|error| StatusError::bad_request(error.to_string()))?;
    review.status = Some(SubjectAccessReviewStatus {
        allowed: true,
        reason: Some("the engine has a single user".to_owned()),
        ..SubjectAccessReviewStatus::default()
    });
    Ok(review)
}
