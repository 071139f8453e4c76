//! Extractors for handlers. Each validates all parts of a request together, so that one response reports every error.

mod body;
mod path;
mod query;
mod requests;
mod user;

pub use path::ResourceId;
pub use requests::{Caller, CreateVolume, Listing, LogRequest, Reader, SubmitTask};
