//! Decides on which cluster nodes a task may run: the models of its accelerators, spot instances, and alternatives.

mod accelerator_model;
mod choose;
mod inventory;
mod machine;
mod usage;

#[cfg(test)]
pub(crate) use choose::NodeLabel;
pub(crate) use choose::{Placement, choose};
pub(crate) use inventory::Inventory;
pub(crate) use machine::{ACCELERATORS, Machine, resource_name};
pub(crate) use usage::{PodUsage, summarize};
