//! Fuzz target for objects in the namespace with arbitrary content.

use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;

use super::identity::{MAX_MESSAGE, MAX_REASON, truncate};
use super::job::Job;
use super::object::{Pod, TaskOwner, Volume, Warning};

/// Checks that every object is either accepted or ignored, and that what is kept of it is bounded.
pub fn objects(data: &[u8]) {
    if let Some(job) = read::<batch::Job>(data) {
        if let Ok(job) = Job::from_resource(job) {
            let _ = (job.is_over(), job.is_suspended(), job.sort_key());
        }
    }
    if let Some(pod) = read::<core::Pod>(data) {
        if let Ok(pod) = Pod::from_resource(pod) {
            let _ = (pod.is_gated(), pod.is_unschedulable(), pod.has_log());
        }
    }
    if let Some(owner) = read::<core::ConfigMap>(data) {
        let _ = TaskOwner::from_metadata(&owner.metadata);
    }
    if let Some(claim) = read::<core::PersistentVolumeClaim>(data) {
        let _ = Volume::from_resource(claim);
    }
    if let Some(event) = read::<core::Event>(data) {
        let _ = Warning::from_resource(event);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        for limit in [0, 1, MAX_REASON, MAX_MESSAGE] {
            assert!(truncate(text, limit).len() <= limit);
        }
    }
}

fn read<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    serde_json::from_slice(data).ok()
}
