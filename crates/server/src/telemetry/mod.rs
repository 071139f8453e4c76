//! Logging, metrics, and the log line of each request.

pub mod logging;
pub mod metrics;
pub mod request;
