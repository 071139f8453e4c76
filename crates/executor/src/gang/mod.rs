//! Starts the nodes of a task together, and ends them together.
//!
//! ```text
//! cache (Jobs, pods) -> decide (pure) -> reconcile (patches of pods and Jobs) -> the kubelet -> the nodes
//! ```
//!
//! Three more loops poll the cache: `preemption` resolves deadlocks between gangs that each hold part of what they
//! need, `provision_timeout` enforces the provisioning timeout, and `missing_jobs` ends gangs that lost a Job.
//!
//! All state is in Kubernetes: a gate is open when the pod has its annotation. Any server can therefore continue where
//! another one stopped, and two servers may safely do the same thing twice. Steps that exclude each other (opening a
//! gate, giving way, ending for lack of resources, starting the next attempt) are first recorded in the owner of the
//! task (`take_turn`), where only one server can win. `cancel` is the request of a user for such a step.

mod cancel;
mod decide;
mod missing_jobs;
mod patch;
mod preemption;
mod provision_timeout;
mod reconcile;
mod record_ends;
mod refetch;
mod start_held;
mod step_timers;
mod take_turn;
mod task;

pub use cancel::CancelOutcome;
pub(crate) use cancel::{cancel, cancel_all};
pub(crate) use missing_jobs::run as run_missing_jobs;
pub(crate) use preemption::run as run_preemption;
pub(crate) use provision_timeout::run as run_provision_timeout;
pub(crate) use reconcile::run as run_reconciler;
pub(crate) use refetch::refetch_outcome;
pub(crate) use start_held::{StartOutcome, start_held};
pub(crate) use task::is_reconciled;
