//! Logging, metrics, and the log line of each request.

pub(crate) mod logging;
pub(crate) mod metrics;
pub(crate) mod request;
