//! The kubelet: runs the pods that are bound to this machine, each in its own worker.

mod atomic_writer;
mod cgroups;
mod context;
mod dir_watcher;
mod environment;
mod hosts_file;
mod kubelet;
mod log_pruner;
mod log_reader;
mod node_object;
mod pod_config;
mod pod_ips;
mod pod_status;
mod pod_worker;
mod readiness_probe;
mod references;
mod restart_policy;
mod trash;
mod volumes;

pub(crate) use context::KubeletConfig;
pub(crate) use kubelet::Kubelet;
pub(crate) use log_reader::PodLogOptions;
pub(crate) use node_object::{build_node, node_name, ready_condition};
