//! What tasks and volumes have in common.

use crate::output::Item;

/// A task or a volume.
pub(crate) trait Resource: Item {
    /// `task` or `volume`, for messages.
    const KIND: &'static str;
    /// The URL path of the collection.
    const PATH: &'static str;
    /// The command for it, for messages.
    const COMMAND: &'static str;
    fn created_at(&self) -> &str;
}
