//! Defaulting and validation, one file per kind or family of kinds.

mod candidate;
mod config_data;
mod job;
mod metadata;
mod pod;
mod pod_spec;
mod pvc;
mod service;
mod simple;
mod strategy;

pub(crate) use job::true_condition;
pub(crate) use pod::{
    JOB_TRACKING_FINALIZER, bind, claim_names, container_state, is_bound, is_terminal, set_condition,
};
pub(crate) use pvc::{DEFAULT_STORAGE_CLASS, PVC_PROTECTION_FINALIZER};
pub(crate) use strategy::{needs_reconcile, prepare_for_create, prepare_for_update};
