//! The kinds of objects that the watches keep.

use kube::core::PartialObjectMeta;

use super::identity::Ignored;
use super::job::Job;
use super::object::{Pod, TaskOwner, Volume, Warning};
use super::state::{Listed, State};
use crate::kubernetes;

/// A kind of object, as Kubernetes has it and as we keep it.
pub(super) trait Kept: Sized + Send + 'static {
    /// Kubernetes' type.
    type Resource;

    /// Whether the cache is complete only when this kind is. Of the others it is shown what there is.
    const IS_STATE: bool = true;

    fn from_resource(resource: Self::Resource) -> Result<Self, Ignored>;
    /// The object is there, or has changed.
    fn put(self, state: &mut State);
    /// The object is no longer there, or no longer one of ours.
    fn remove(uid: &str, state: &mut State);
    /// Forgets what a list no longer shows.
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
    /// Kubernetes forgets events after an hour; what they said stays true until something new is said.
    fn remove(_: &str, _: &mut State) {}
    fn retain(_: &mut State, _: &Listed) {}
}
