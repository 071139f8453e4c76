//! The controllers: scheduler, Jobs, claims, quotas, namespaces, and garbage collection.
//!
//! Controllers see each change within the transaction that made it, and their own changes are part of that transaction.
//! So no client, and no crash, can come between a cause and its effect.

mod deletion;
mod events;
mod garbage_collector;
mod job;
mod job_decision;
mod manager;
mod namespace;
mod pvc;
mod quota;
mod scheduler;

pub(crate) use deletion::{DeleteOptions, PropagationPolicy, delete_object, remove_if_finalized};
pub(crate) use events::EventRecorder;
pub(crate) use manager::ControllerManager;
pub(crate) use quota::check_quota;
