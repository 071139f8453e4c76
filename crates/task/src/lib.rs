//! Definitions of tasks and volumes, their validation, and their wire types. No I/O, no Kubernetes client, no HTTP.

pub mod definition;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod id;
pub mod name;
pub mod quantity;
pub mod record;
#[cfg(test)]
mod schema_check;
mod text_schema;
pub mod time;
pub mod user;
pub mod validation;
pub mod volume;
pub mod wire;

pub use definition::{Execution, GroupDefinition, Recovery, Resources, TaskDefinition, VolumeMount};
pub use id::Id;
pub use name::Name;
pub use quantity::Quantity;
pub use user::{InvalidUserName, UserName};
pub use validation::ErrorDetail;
pub use volume::VolumeDefinition;
pub use wire::TaskState;
