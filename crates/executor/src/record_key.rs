//! The name of a task in the archive.

use archive::RecordKey;

use crate::cache::{TaskKey, TaskSnapshot};
use crate::tokens;

/// The key of the record of a task.
pub(crate) fn record_key(snapshot: &TaskSnapshot) -> RecordKey {
    let TaskKey { id, user, submission } = &*snapshot.key;
    let token = tokens::hash(&[
        user.as_str().as_bytes(),
        submission.as_deref().unwrap_or_default().as_bytes(),
    ]);
    RecordKey::new(snapshot.created_at, id, &token[..16])
}
