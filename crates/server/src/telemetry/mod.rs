//! What the server says about itself: log, metrics, and a line for each request.

pub mod logging;
pub mod metrics;
pub mod request;
