//! The kinds of objects that the watches keep.

use kube::core::PartialObjectMeta;

use super::object::{Job, Pod, TaskOwner, Volume, Warning};
use super::state::{Listed, State};
use crate::kubernetes;

/// A kind of object, as Kubernetes has it and as we keep it.
pub(super) trait Kept: Sized + Send + 'static {
    /// Kubernetes' type.
    type Resource;

    fn from_resource(resource: Self::Resource) -> Option<Self>;
    fn uid(&self) -> &str;
    /// The object is there, or has changed.
    fn put(self, state: &mut State);
    /// The object is gone.
    fn remove(self, state: &mut State);
    /// Forgets what a list no longer shows.
    fn retain(state: &mut State, listed: &Listed);
}

impl Kept for Job {
    type Resource = kubernetes::Job;

    fn from_resource(resource: Self::Resource) -> Option<Self> {
        Self::from_resource(resource)
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn put(self, state: &mut State) {
        state.put_job(self);
    }
    fn remove(self, state: &mut State) {
        state.remove_job(&self);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_jobs(listed);
    }
}

impl Kept for Pod {
    type Resource = kubernetes::Pod;

    fn from_resource(resource: Self::Resource) -> Option<Self> {
        Self::from_resource(resource)
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn put(self, state: &mut State) {
        state.put_pod(self);
    }
    fn remove(self, state: &mut State) {
        state.remove_pod(&self);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_pods(listed);
    }
}

impl Kept for TaskOwner {
    type Resource = PartialObjectMeta<kubernetes::ConfigMap>;

    fn from_resource(resource: Self::Resource) -> Option<Self> {
        Self::from_metadata(&resource.metadata)
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn put(self, state: &mut State) {
        state.put_owner(self);
    }
    fn remove(self, state: &mut State) {
        state.remove_owner(&self);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_owners(listed);
    }
}

impl Kept for Volume {
    type Resource = kubernetes::PersistentVolumeClaim;

    fn from_resource(resource: Self::Resource) -> Option<Self> {
        Self::from_resource(resource)
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn put(self, state: &mut State) {
        state.put_volume(self);
    }
    fn remove(self, state: &mut State) {
        state.remove_volume(&self);
    }
    fn retain(state: &mut State, listed: &Listed) {
        state.retain_volumes(listed);
    }
}

impl Kept for Warning {
    type Resource = kubernetes::Event;

    fn from_resource(resource: Self::Resource) -> Option<Self> {
        Self::from_resource(resource)
    }
    fn uid(&self) -> &str {
        &self.about
    }
    fn put(self, state: &mut State) {
        state.put_warning(self);
    }
    /// Kubernetes forgets events after an hour; what they said stays true until something new is said.
    fn remove(self, _: &mut State) {}
    fn retain(_: &mut State, _: &Listed) {}
}
