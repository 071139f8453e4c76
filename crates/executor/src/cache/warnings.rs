//! The last warning about each Job and pod, including those that arrive before their object.

use std::collections::{HashMap, VecDeque};

use super::object::Warning;
use super::reasons::Reason;

/// How many warnings wait for their object. Most are about unrelated or long-deleted objects.
const MAX_PENDING: usize = 1024;

/// Warnings by the uid of their object.
#[derive(Default)]
pub(super) struct Warnings {
    attached: HashMap<String, Reason>,
    pending: VecDeque<Warning>,
}

impl Warnings {
    /// Stores a warning about a known object.
    pub(crate) fn put(&mut self, warning: Warning) {
        self.attached.insert(warning.about, warning.reason);
    }

    /// Stores a warning until its object arrives. Drops the oldest one if there are too many.
    pub(crate) fn put_pending(&mut self, warning: Warning) {
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(warning);
    }

    /// Applies the warnings that arrived before this object.
    pub(crate) fn attach(&mut self, uid: &str) {
        // The list is nearly empty, except right after startup or during a flood of events.
        while let Some(index) = self.pending.iter().position(|warning| warning.about == uid) {
            if let Some(warning) = self.pending.remove(index) {
                self.put(warning);
            }
        }
    }

    pub(crate) fn remove(&mut self, uid: &str) {
        self.attached.remove(uid);
    }

    pub(crate) fn get(&self, uid: &str) -> Option<&Reason> {
        self.attached.get(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::Warning;
    use super::super::reasons::Reason;
    use super::{MAX_PENDING, Warnings};

    fn warning(about: &str, reason: &str) -> Warning {
        Warning {
            about: about.to_owned(),
            reason: Reason::new(reason, ""),
        }
    }

    #[test]
    fn a_warning_waits_for_its_object_and_goes_with_it() {
        let mut warnings = Warnings::default();
        warnings.put_pending(warning("a", "first"));
        warnings.put_pending(warning("a", "second"));
        assert_eq!(warnings.get("a"), None);
        warnings.attach("a");
        assert_eq!(warnings.get("a").unwrap().reason, "second");
        warnings.remove("a");
        assert_eq!(warnings.get("a"), None);
    }

    #[test]
    fn a_flood_of_warnings_about_others_pushes_out_none_of_ours() {
        let mut warnings = Warnings::default();
        warnings.put(warning("ours", "known"));
        for index in 0..3 * MAX_PENDING {
            warnings.put_pending(warning(&index.to_string(), "flood"));
        }
        assert_eq!(warnings.pending.len(), MAX_PENDING);
        assert_eq!(warnings.get("ours").unwrap().reason, "known");
    }
}
