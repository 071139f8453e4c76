//! The kinds of objects that the cache watches, and how each is stored.

use kube::core::PartialObjectMeta;

use super::health::StateKind;
use super::identity::InvalidObject;
use super::job::Job;
use super::load_balancers::LoadBalancer;
use super::object::{Pod, TaskOwner, Volume, Warning};
use super::state::{CacheState, ListedUids};
use crate::kubernetes::{self, NamespacedObject};
use crate::labels;

/// Selects the warnings that explain why a pod does not start. The excluded ones only repeat what the pod's status
/// says.
const WARNINGS: &str =
    "type=Warning,reason!=Unhealthy,reason!=BackOff,reason!=FailedScheduling,reason!=BackoffLimitExceeded";

/// Selectors for the objects of one kind.
#[derive(Clone, Copy)]
pub(super) struct Selection {
    pub labels: Option<&'static str>,
    pub fields: Option<&'static str>,
}

impl Selection {
    const fn labels(labels: &'static str) -> Self {
        let (labels, fields) = (Some(labels), None);
        Self { labels, fields }
    }

    const fn fields(fields: &'static str) -> Self {
        let (labels, fields) = (None, Some(fields));
        Self { labels, fields }
    }
}

/// A watched kind of object.
pub(super) trait CachedResource: Sized + Send + 'static {
    /// The Kubernetes type.
    type Resource: NamespacedObject + Send;

    /// Which of the objects of this kind to watch.
    const SELECTION: Selection;

    /// This kind among those that must be up to date, or `None` if it is optional.
    const STATE_KIND: Option<StateKind>;

    fn from_resource(resource: Self::Resource) -> Result<Self, InvalidObject>;
    /// Adds or replaces an object.
    fn apply(self, state: &mut CacheState);
    /// Removes an object that no longer exists or is no longer ours.
    fn remove(uid: &str, state: &mut CacheState);
    /// Removes everything that a list does not contain.
    fn retain(state: &mut CacheState, listed: &ListedUids);
}

impl CachedResource for Job {
    type Resource = kubernetes::Job;

    const SELECTION: Selection = Selection::labels(labels::TASK_SELECTOR);
    const STATE_KIND: Option<StateKind> = Some(StateKind::Job);

    fn from_resource(resource: Self::Resource) -> Result<Self, InvalidObject> {
        Self::from_resource(resource)
    }
    fn apply(self, state: &mut CacheState) {
        state.apply_job(self);
    }
    fn remove(uid: &str, state: &mut CacheState) {
        state.remove_unlisted(uid);
    }
    fn retain(state: &mut CacheState, listed: &ListedUids) {
        state.retain_jobs(listed);
    }
}

impl CachedResource for Pod {
    type Resource = kubernetes::Pod;

    const SELECTION: Selection = Selection::labels(labels::TASK_SELECTOR);
    const STATE_KIND: Option<StateKind> = Some(StateKind::Pod);

    fn from_resource(resource: Self::Resource) -> Result<Self, InvalidObject> {
        Self::from_resource(resource)
    }
    fn apply(self, state: &mut CacheState) {
        state.apply_pod(self);
    }
    fn remove(uid: &str, state: &mut CacheState) {
        state.remove_pod(uid);
    }
    fn retain(state: &mut CacheState, listed: &ListedUids) {
        state.retain_pods(listed);
    }
}

impl CachedResource for TaskOwner {
    type Resource = PartialObjectMeta<kubernetes::ConfigMap>;

    const SELECTION: Selection = Selection::labels(labels::TASK_SELECTOR);
    const STATE_KIND: Option<StateKind> = Some(StateKind::TaskOwner);

    fn from_resource(resource: Self::Resource) -> Result<Self, InvalidObject> {
        Self::from_metadata(&resource.metadata)
    }
    fn apply(self, state: &mut CacheState) {
        state.apply_owner(self);
    }
    fn remove(uid: &str, state: &mut CacheState) {
        state.remove_unlisted(uid);
    }
    fn retain(state: &mut CacheState, listed: &ListedUids) {
        state.retain_owners(listed);
    }
}

impl CachedResource for Volume {
    type Resource = kubernetes::PersistentVolumeClaim;

    const SELECTION: Selection = Selection::labels(labels::VOLUME_SELECTOR);
    const STATE_KIND: Option<StateKind> = Some(StateKind::Volume);

    fn from_resource(resource: Self::Resource) -> Result<Self, InvalidObject> {
        Self::from_resource(resource)
    }
    fn apply(self, state: &mut CacheState) {
        state.apply_volume(self);
    }
    fn remove(uid: &str, state: &mut CacheState) {
        state.remove_volume(uid);
    }
    fn retain(state: &mut CacheState, listed: &ListedUids) {
        state.retain_volumes(listed);
    }
}

impl CachedResource for Warning {
    type Resource = kubernetes::Event;

    const SELECTION: Selection = Selection::fields(WARNINGS);
    const STATE_KIND: Option<StateKind> = None;

    fn from_resource(resource: Self::Resource) -> Result<Self, InvalidObject> {
        Self::from_resource(resource)
    }
    fn apply(self, state: &mut CacheState) {
        state.apply_warning(self);
    }
    /// Does nothing: Kubernetes expires events after an hour, but the last warning stays valid until a newer one.
    fn remove(_: &str, _: &mut CacheState) {}
    fn retain(_: &mut CacheState, _: &ListedUids) {}
}

impl CachedResource for LoadBalancer {
    type Resource = kubernetes::Service;

    const SELECTION: Selection = Selection::labels(labels::TASK_SELECTOR);
    const STATE_KIND: Option<StateKind> = None;

    fn from_resource(resource: Self::Resource) -> Result<Self, InvalidObject> {
        Self::from_resource(&resource)
    }
    fn apply(self, state: &mut CacheState) {
        state.change_load_balancers(|balancers| balancers.insert(self));
    }
    fn remove(uid: &str, state: &mut CacheState) {
        state.change_load_balancers(|balancers| balancers.retain(|known| known != uid));
    }
    fn retain(state: &mut CacheState, listed: &ListedUids) {
        state.change_load_balancers(|balancers| balancers.retain(|known| listed.uids.contains(known)));
    }
}
