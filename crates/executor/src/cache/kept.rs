//! The kinds of objects that the cache watches, and how each is stored.

use kube::core::PartialObjectMeta;

use super::identity::Ignored;
use super::job::Job;
use super::object::{Pod, TaskOwner, Volume, Warning};
use super::state::{Listed, State};
use crate::kubernetes;

/// A watched kind of object.
pub(super) trait Kept: Sized + Send + 'static {
    /// The Kubernetes type.
    type Resource;

    /// Whether the cache counts as up to date only if this kind is. Warnings are optional.
    const IS_STATE: bool = true;

    fn from_resource(resource: Self::Resource) -> Result<Self, Ignored>;
    /// Adds or replaces an object.
    fn put(self, state: &mut State);
    /// Removes an object that no longer exists or is no longer ours.
    fn remove(uid: &str, state: &mut State);
    /// Removes everything that a list does not contain.
    fn retain(state: &mut State, listed: &Listed);
}

impl Kept for Job {
    type Resource = kubernetes::Job;

    fn from_resource(resource: Self::Resource) -> Result<Self, Ignored> {
        Self::from_resource(resource)
    }
    fn put(self, state: &mut State) {
        state.put_job(self);
    }
    fn remove(uid: &str, state: &mut State) {
        state.unseen(uid);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_jobs(listed);
    }
}

impl Kept for Pod {
    type Resource = kubernetes::Pod;

    fn from_resource(resource: Self::Resource) -> Result<Self, Ignored> {
        Self::from_resource(resource)
    }
    fn put(self, state: &mut State) {
        state.put_pod(self);
    }
    fn remove(uid: &str, state: &mut State) {
        state.remove_pod(uid);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_pods(listed);
    }
}

impl Kept for TaskOwner {
    type Resource = PartialObjectMeta<kubernetes::ConfigMap>;

    fn from_resource(resource: Self::Resource) -> Result<Self, Ignored> {
        Self::from_metadata(&resource.metadata)
    }
    fn put(self, state: &mut State) {
        state.put_owner(self);
    }
    fn remove(uid: &str, state: &mut State) {
        state.unseen(uid);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_owners(listed);
    }
}

impl Kept for Volume {
    type Resource = kubernetes::PersistentVolumeClaim;

    fn from_resource(resource: Self::Resource) -> Result<Self, Ignored> {
        Self::from_resource(resource)
    }
    fn put(self, state: &mut State) {
        state.put_volume(self);
    }
    fn remove(uid: &str, state: &mut State) {
        state.remove_volume(uid);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_volumes(listed);
    }
}

impl Kept for Warning {
    type Resource = kubernetes::Event;

    const IS_STATE: bool = false;

    fn from_resource(resource: Self::Resource) -> Result<Self, Ignored> {
        Self::from_resource(resource)
    }
    fn put(self, state: &mut State) {
        state.put_warning(self);
    }
    /// Does nothing: Kubernetes expires events after an hour, but the last warning stays valid until a newer one.
    fn remove(_: &str, _: &mut State) {}
    fn retain(_: &mut State, _: &Listed) {}
}
