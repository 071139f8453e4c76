//! Extractors for handlers. Each validates all parts of a request together, so that one response reports every error.

mod body;
mod headers;
mod path;
mod query;
mod requests;

pub(crate) use headers::{IDEMPOTENCY_KEY_PATTERN, MAX_IDEMPOTENCY_KEY};
pub(crate) use path::ResourceId;
pub(crate) use query::MAX_LIMIT;
pub(crate) use requests::{
    Anonymous, AuthUser, CreateVolume, EventsRequest, HistoryRequest, ListScope, LogRequest, SubmitGroup, SubmitTask,
    TaskListRequest, Upload, UsageRequest, read_bytes, read_json,
};
