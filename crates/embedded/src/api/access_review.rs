//! Access reviews: whether the user may do something.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::body::read_body;
use super::responses;
use crate::status_error::StatusError;

/// Allows everything: the engine has a single user, and no RBAC.
pub(super) async fn review_access(body: Body) -> Result<Response, StatusError> {
    let bytes = read_body(body).await?;
    let mut review: Value =
        serde_json::from_slice(&bytes).map_err(|error| StatusError::bad_request(error.to_string()))?;
    review["kind"] = "SelfSubjectAccessReview".into();
    review["apiVersion"] = "authorization.k8s.io/v1".into();
    review["status"] = json!({"allowed": true, "reason": "the engine has a single user"});
    Ok(responses::value(StatusCode::CREATED, &review))
}
