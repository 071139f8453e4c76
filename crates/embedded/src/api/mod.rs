//! The Kubernetes API as an axum `Router`, which `kube::Client` can use without a socket.

mod body;
mod delete;
mod field_validation;
mod patch;
mod path;
mod pod_logs;
mod query;
mod read;
mod representation;
mod request;
mod responses;
mod router;
mod unknown_fields;
mod watch;
mod write;

pub(crate) use request::Api;
pub(crate) use router::router;
