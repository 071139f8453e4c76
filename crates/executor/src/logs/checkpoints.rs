//! How many bytes of a log lie before some of its places, so that a reader that has missed a part can tell how much.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::position::LogPosition;

/// The least bytes between two checkpoints, and how many are kept: at least those of the newest 64 MiB of the log.
const SPACING: u64 = 16 * 1024;
const MAX_CHECKPOINTS: usize = 4096;

/// A place between two lines of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub position: LogPosition,
    /// How many bytes the stream has passed on before it.
    pub offset: u64,
}

/// Some places of what one stream has passed on, among them the last one.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints(Mutex<VecDeque<Checkpoint>>);

impl Checkpoints {
    /// Adds the place after everything that was passed on.
    pub(super) fn push(&self, checkpoint: Checkpoint) {
        if !checkpoint.position.is_between_lines() {
            return;
        }
        let mut places = self.lock();
        let (last, before) = (places.len().wrapping_sub(1), places.len().wrapping_sub(2));
        let is_close = match (places.get(before), places.get(last)) {
            (Some(before), Some(last)) => last.offset < before.offset + SPACING,
            _ => false,
        };
        if is_close {
            places.pop_back();
        }
        places.push_back(checkpoint);
        if places.len() > MAX_CHECKPOINTS {
            places.pop_front();
        }
    }

    /// The places between two positions, and at the second one.
    pub(super) fn between(&self, after: LogPosition, until: LogPosition) -> Vec<Checkpoint> {
        let is_between = |place: &&Checkpoint| place.position > after && place.position <= until;
        self.lock().iter().filter(is_between).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Checkpoint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
