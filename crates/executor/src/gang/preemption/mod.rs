//! Resolves deadlocks between gangs that each hold part of what they need: the latest one gives way and retries.

mod apply;
mod decide;

pub(crate) use apply::run;
