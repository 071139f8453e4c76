//! The Kubernetes types in use, under short names, and how its API is called. Imported everywhere as `kubernetes`.

mod call;
mod client;

pub use call::{Calls, Created};
pub use client::connect;

pub use k8s_openapi::api::batch::v1::{Job, JobSpec};
pub use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EnvVar, Event, Node, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec, ResourceRequirements, Volume, VolumeMount,
    VolumeResourceRequirements,
};
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
pub use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
pub use kube::{Client, Resource, ResourceExt};
