//! The state of our objects, kept in memory by watching, aggregated when an event arrives.
//!
//! ```text
//! apiserver -> watch -> object (ours, trimmed) -> store (by task, by user) -> view (status, as JSON) -> GET
//! ```

mod aggregate;
mod health;
mod kept;
mod object;
mod phase;
mod state;
mod store;
mod view;
mod watch;

pub use health::Health;
pub use object::{Job, TaskOwner, Volume};
pub use phase::Phase;
pub use store::{Cache, Counts};
pub use view::View;
pub use watch::watch;
