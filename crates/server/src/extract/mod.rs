//! What handlers take: the parts of a request, validated together, so that all errors are told at once.

mod body;
mod path;
mod query;
mod requests;
mod user;

pub use path::ResourceId;
pub use requests::{Caller, CreateVolume, Listing, LogRequest, Reader, SubmitTask};
