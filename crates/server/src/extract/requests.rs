//! One extractor per kind of request. Errors are collected in FastAPI's order: query, headers, body.

use std::convert::Infallible;

use archive::{HistoryFilter, UsageFilter};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use executor::{ChangeCursor, LogOptions, TaskFilter};
use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;
use task::{ErrorDetail, GroupDefinition, TaskDefinition, UserName, VolumeDefinition};

use super::body::{is_large, parse_body, receive_body, receive_bytes};
use super::headers;
use super::query::{DEFAULT_LIMIT, MAX_LIMIT, QueryParams};
use crate::app::AppState;
use crate::client::{ClientId, Requester};
use crate::error::ApiError;
use crate::limits::MAX_UPLOAD_BYTES;

/// The user of a request that has no other parameters to validate.
pub(crate) struct AuthUser(pub UserName);

/// A request that needs no user; who sends it, for the memory budget.
pub(crate) struct Anonymous(pub Requester);

/// A request about all tasks or volumes of one user, or of all users.
pub(crate) struct ListScope {
    pub user: UserName,
    pub all_users: bool,
    /// Whose memory budget the response counts against if it is a copy.
    pub requester: Requester,
}

/// A request for the log of a task.
pub(crate) struct LogRequest {
    pub user: UserName,
    pub options: LogOptions,
}

/// A request for a list of tasks.
pub(crate) struct TaskListRequest {
    pub scope: ListScope,
    pub filter: TaskFilter,
}

/// A request for the changes of tasks.
pub(crate) struct EventsRequest {
    pub scope: ListScope,
    /// The cursor behind the last event that the client has; `None` if there is none, or it is not one of ours.
    pub since: Option<ChangeCursor>,
}

/// A request for past and present tasks.
pub(crate) struct HistoryRequest {
    pub user: UserName,
    pub filter: HistoryFilter,
}

/// A request with a part of a file set, in a body that is not JSON.
pub(crate) struct Upload {
    pub user: UserName,
    /// Holds its share of the memory budget.
    pub body: Bytes,
}

/// A request for what tasks used.
pub(crate) struct UsageRequest {
    pub user: UserName,
    pub filter: UsageFilter,
}

/// A request to submit a task or a group of tasks.
pub(crate) struct Submit<Definition> {
    pub request: executor::SubmitRequest<Definition>,
    /// Whether to validate only.
    pub dry_run: bool,
    pub requester: Requester,
}

pub(crate) type SubmitTask = Submit<TaskDefinition>;
pub(crate) type SubmitGroup = Submit<GroupDefinition>;

/// A request to create a volume.
pub(crate) struct CreateVolume {
    pub user: UserName,
    pub definition: VolumeDefinition,
}

impl ListScope {
    /// The user to filter by; `None` means all users.
    pub(crate) fn owner(&self) -> Option<&UserName> {
        (!self.all_users).then_some(&self.user)
    }
}

impl<S: Sync> FromRequestParts<S> for Anonymous {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(requester_of(parts, None)))
    }
}

impl<S: Sync> FromRequestParts<S> for AuthUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        request_user(&parts.headers).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for ListScope {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let scope = list_scope(parts, &QueryParams::from_uri(&parts.uri), &mut errors);
        finish(scope, errors)
    }
}

fn list_scope(parts: &Parts, query: &QueryParams, errors: &mut Vec<ErrorDetail>) -> Option<ListScope> {
    let all_users = query.flag("all_users", false, errors);
    let user = headers::user(&parts.headers, errors)?;
    let requester = requester_of(parts, Some(&user));
    Some(ListScope {
        user,
        all_users,
        requester,
    })
}

impl<S: Sync> FromRequestParts<S> for TaskListRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let query = QueryParams::from_uri(&parts.uri);
        let filter = TaskFilter {
            states: query.states("status", &mut errors),
            name: query.filter_text("name"),
            cursor: query.cursor("cursor", &mut errors),
            limit: query.limit("limit", None, &mut errors),
        };
        let scope = list_scope(parts, &query, &mut errors);
        finish(scope.map(|scope| Self { scope, filter }), errors)
    }
}

impl<S: Sync> FromRequestParts<S> for EventsRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let scope = ListScope::from_request_parts(parts, state).await?;
        let last = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let since = last.and_then(ChangeCursor::parse);
        Ok(Self { scope, since })
    }
}

impl<S: Sync> FromRequestParts<S> for LogRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let query = QueryParams::from_uri(&parts.uri);
        let options = LogOptions {
            follow: query.flag("follow", true, &mut errors),
            tail: query.count("tail", &mut errors),
            since: query.since("since", &mut errors),
            timestamps: query.flag("timestamps", false, &mut errors),
            node: query.count("node", &mut errors),
        };
        let user = headers::user(&parts.headers, &mut errors);
        finish(user.map(|user| Self { user, options }), errors)
    }
}

impl<S: Sync> FromRequestParts<S> for HistoryRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let query = QueryParams::from_uri(&parts.uri);
        let all_users = query.flag("all_users", false, &mut errors);
        let text = |name| query.filter_text(name);
        let filter = HistoryFilter {
            user: text("user"),
            states: query.states("status", &mut errors),
            name: text("name"),
            since: query.since("since", &mut errors),
            until: query.since("until", &mut errors),
            text: text("q"),
            cursor: query.cursor("cursor", &mut errors),
            limit: query
                .limit("limit", Some(MAX_LIMIT), &mut errors)
                .unwrap_or(DEFAULT_LIMIT),
        };
        let user = headers::user(&parts.headers, &mut errors);
        let request = user.map(|user| {
            let owner = owner_filter(filter.user.clone(), all_users, &user);
            let filter = HistoryFilter { user: owner, ..filter };
            Self { user, filter }
        });
        finish(request, errors)
    }
}

impl<S: Sync> FromRequestParts<S> for UsageRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let query = QueryParams::from_uri(&parts.uri);
        let all_users = query.flag("all_users", false, &mut errors);
        let (since, until) = (query.since("since", &mut errors), query.since("until", &mut errors));
        let user = headers::user(&parts.headers, &mut errors);
        let request = user.map(|user| {
            let owner = owner_filter(query.filter_text("user"), all_users, &user);
            let filter = UsageFilter {
                user: owner,
                since,
                until,
            };
            Self { user, filter }
        });
        finish(request, errors)
    }
}

/// Whose tasks to return: those of the user that the request names, of all users, or of the caller.
fn owner_filter(named: Option<String>, all_users: bool, caller: &UserName) -> Option<String> {
    named.or_else(|| (!all_users).then(|| caller.to_string()))
}

impl FromRequest<AppState> for SubmitTask {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        Self::read(request, app, TaskDefinition::parse).await
    }
}

impl FromRequest<AppState> for SubmitGroup {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        Self::read(request, app, GroupDefinition::parse).await
    }
}

impl<Definition: Send + 'static> Submit<Definition> {
    /// Reads a request whose body is parsed with `parse`, which gets the server's limit for the nodes of a task.
    async fn read(
        request: Request,
        app: &AppState,
        parse: fn(&Value, u32) -> Result<Definition, Vec<ErrorDetail>>,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut errors = Vec::new();
        let dry_run = QueryParams::from_uri(&parts.uri).flag("dry_run", false, &mut errors);
        let user = headers::user(&parts.headers, &mut errors);
        let idempotency_key = headers::idempotency_key(&parts.headers, &mut errors);
        let max_nodes = app.max_nodes;
        let parse = move |body: &Value| parse(body, max_nodes);
        let requester = requester_of(&parts, user.as_ref());
        let definition = read_definition(app, &parts, &requester, body, &mut errors, parse).await?;
        let request = user.zip(definition).map(|(user, definition)| executor::SubmitRequest {
            user,
            definition,
            idempotency_key,
        });
        let submit = request.map(|request| Self {
            request,
            dry_run,
            requester,
        });
        finish(submit, errors)
    }
}

impl FromRequest<AppState> for CreateVolume {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut errors = Vec::new();
        let user = headers::user(&parts.headers, &mut errors);
        let requester = requester_of(&parts, user.as_ref());
        let definition = read_definition(app, &parts, &requester, body, &mut errors, VolumeDefinition::parse).await?;
        let volume = user.zip(definition);
        finish(volume.map(|(user, definition)| Self { user, definition }), errors)
    }
}

impl FromRequest<AppState> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let user = request_user(request.headers())?;
        let body = read_bytes(app, request, &user).await?;
        Ok(Self { user, body })
    }
}

/// The user of a request.
fn request_user(headers: &HeaderMap) -> Result<UserName, ApiError> {
    let mut errors = Vec::new();
    finish(headers::user(headers, &mut errors), errors)
}

/// Reads the body of a request of a node, which has no user; `user` is that of its task.
pub(crate) async fn read_bytes(app: &AppState, request: Request, user: &UserName) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    let requester = requester_of(&parts, Some(user));
    receive_bytes(&app.limits, &requester, &parts.headers, body, MAX_UPLOAD_BYTES).await
}

/// Reads and parses the body of a request that needs no user.
pub(crate) async fn read_json<T: Send + 'static>(
    app: &AppState,
    request: Request,
    parse: impl FnOnce(&Value) -> Result<T, Vec<ErrorDetail>> + Send + 'static,
) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    let requester = requester_of(&parts, None);
    let received = receive_body(&app.limits, &requester, &parts.headers, body).await?;
    parse_body(received, parse).await?.map_err(ApiError::Invalid)
}

/// Reads and parses the body, and appends its errors to those of the headers and the query.
async fn read_definition<T: Send + 'static>(
    app: &AppState,
    parts: &Parts,
    requester: &Requester,
    body: Body,
    errors: &mut Vec<ErrorDetail>,
    parse: impl FnOnce(&Value) -> Result<T, Vec<ErrorDetail>> + Send + 'static,
) -> Result<Option<T>, ApiError> {
    if !errors.is_empty() && is_large(&body) {
        // The request is invalid anyway, and may name no user to charge the body's memory to, so don't read it.
        return Err(ApiError::Invalid(std::mem::take(errors)));
    }
    let received = receive_body(&app.limits, requester, &parts.headers, body).await?;
    let parsed = parse_body(received, parse).await?;
    Ok(parsed.map_err(|more| errors.extend(more)).ok())
}

/// Whose memory budget a body or a response counts against.
fn requester_of(parts: &Parts, user: Option<&UserName>) -> Requester {
    Requester {
        client: parts.extensions.get().copied().unwrap_or(ClientId::UNKNOWN),
        user: user.cloned(),
    }
}

fn finish<T>(request: Option<T>, errors: Vec<ErrorDetail>) -> Result<T, ApiError> {
    match request {
        Some(request) if errors.is_empty() => Ok(request),
        _ => Err(ApiError::Invalid(errors)),
    }
}
