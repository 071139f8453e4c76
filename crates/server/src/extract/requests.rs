//! One extractor per kind of request. Errors are collected in FastAPI's order: query, headers, body.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use executor::LogOptions;
use http::request::Parts;
use serde_json::Value;
use task::{ErrorDetail, TaskDefinition, UserName, VolumeDefinition};

use super::body;
use super::query::Query;
use super::user;
use crate::app::AppState;
use crate::caller::Client;
use crate::error::ApiError;
use crate::room::Sender;

/// The user of a request that has no other parameters to validate.
pub struct Caller(pub UserName);

/// The sender of a request that needs no user.
pub struct Reader(pub Sender);

/// A request about all tasks or volumes of one user, or of all users.
pub struct Listing {
    pub user: UserName,
    pub all_users: bool,
    /// Whose memory budget the response counts against if it is a copy.
    pub sender: Sender,
}

/// A request for the log of a task.
pub struct LogRequest {
    pub user: UserName,
    pub options: LogOptions,
}

/// A request to submit a task.
pub struct SubmitTask {
    pub request: executor::SubmitRequest,
    /// Whether to validate the task only.
    pub dry_run: bool,
}

/// A request to create a volume.
pub struct CreateVolume {
    pub user: UserName,
    pub definition: VolumeDefinition,
}

impl Listing {
    /// The user to filter by; `None` means all users.
    pub fn whose(&self) -> Option<&UserName> {
        (!self.all_users).then_some(&self.user)
    }
}

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(sender(parts, None)))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let user = user::user(&parts.headers, &mut errors);
        complete(user.map(Self), errors)
    }
}

impl<S: Sync> FromRequestParts<S> for Listing {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let all_users = Query::of(&parts.uri).flag("all_users", false, &mut errors);
        let user = user::user(&parts.headers, &mut errors);
        let sender = sender(parts, user.as_ref());
        let listing = user.map(|user| Self {
            user,
            all_users,
            sender,
        });
        complete(listing, errors)
    }
}

impl<S: Sync> FromRequestParts<S> for LogRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let query = Query::of(&parts.uri);
        let options = LogOptions {
            follow: query.flag("follow", true, &mut errors),
            tail: query.count("tail", &mut errors),
            since: query.since("since", &mut errors),
            timestamps: query.flag("timestamps", false, &mut errors),
            node: query.count("node", &mut errors),
        };
        let user = user::user(&parts.headers, &mut errors);
        complete(user.map(|user| Self { user, options }), errors)
    }
}

impl FromRequest<AppState> for SubmitTask {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut errors = Vec::new();
        let dry_run = Query::of(&parts.uri).flag("dry_run", false, &mut errors);
        let user = user::user(&parts.headers, &mut errors);
        let idempotency_key = user::idempotency_key(&parts.headers, &mut errors);
        let max_nodes = app.max_nodes;
        let define = move |body: &Value| TaskDefinition::parse(body, max_nodes);
        let sender = sender(&parts, user.as_ref());
        let definition = defined(app, &parts, &sender, body, &mut errors, define).await?;
        let request = user.zip(definition).map(|(user, definition)| executor::SubmitRequest {
            user,
            definition,
            idempotency_key,
        });
        complete(request.map(|request| Self { request, dry_run }), errors)
    }
}

impl FromRequest<AppState> for CreateVolume {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut errors = Vec::new();
        let user = user::user(&parts.headers, &mut errors);
        let sender = sender(&parts, user.as_ref());
        let definition = defined(app, &parts, &sender, body, &mut errors, VolumeDefinition::parse).await?;
        let volume = user.zip(definition);
        complete(volume.map(|(user, definition)| Self { user, definition }), errors)
    }
}

/// Reads and parses the body, and appends its errors to those of the headers and the query.
async fn defined<T: Send + 'static>(
    app: &AppState,
    parts: &Parts,
    sender: &Sender,
    body: Body,
    errors: &mut Vec<ErrorDetail>,
    define: impl FnOnce(&Value) -> Result<T, Vec<ErrorDetail>> + Send + 'static,
) -> Result<Option<T>, ApiError> {
    if !errors.is_empty() && body::is_large(&body) {
        // The request is invalid anyway, and may name no user to charge the body's memory to, so don't read it.
        return Err(ApiError::Invalid(std::mem::take(errors)));
    }
    let received = body::read(&app.limits, sender, &parts.headers, body).await?;
    let found = body::parse(received, define).await?;
    Ok(found.map_err(|more| errors.extend(more)).ok())
}

/// Whose memory budget a body or a response counts against.
fn sender(parts: &Parts, user: Option<&UserName>) -> Sender {
    Sender {
        client: parts.extensions.get().copied().unwrap_or(Client::UNKNOWN),
        user: user.cloned(),
    }
}

fn complete<T>(request: Option<T>, errors: Vec<ErrorDetail>) -> Result<T, ApiError> {
    match request {
        Some(request) if errors.is_empty() => Ok(request),
        _ => Err(ApiError::Invalid(errors)),
    }
}
