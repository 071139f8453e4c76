//! The commands.

pub mod api;
pub mod auth;
pub mod completions;
pub mod doctor;
pub mod jobs;
pub mod man;
mod remove;
pub mod volumes;
