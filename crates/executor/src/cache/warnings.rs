//! The last warning about each Job and pod, including those that arrive before their object.

use std::collections::{HashMap, VecDeque};

use super::object::Warning;
use super::phase::Reason;

/// How many warnings wait for their object. Most are about unrelated or long-deleted objects.
const MAX_EARLY: usize = 1024;

/// Warnings by the uid of their object.
#[derive(Default)]
pub(super) struct Warnings {
    known: HashMap<String, Reason>,
    early: VecDeque<Warning>,
}

impl Warnings {
    /// Stores a warning about a known object.
    pub fn put(&mut self, warning: Warning) {
        self.known.insert(warning.about, warning.reason);
    }

    /// Stores a warning until its object arrives. Drops the oldest one if there are too many.
    pub fn put_early(&mut self, warning: Warning) {
        if self.early.len() == MAX_EARLY {
            self.early.pop_front();
        }
        self.early.push_back(warning);
    }

    /// Applies the warnings that arrived before this object.
    pub fn adopt(&mut self, uid: &str) {
        // The list is nearly empty, except right after startup or during a flood of events.
        while let Some(index) = self.early.iter().position(|warning| warning.about == uid) {
            if let Some(warning) = self.early.remove(index) {
                self.put(warning);
            }
        }
    }

    pub fn forget(&mut self, uid: &str) {
        self.known.remove(uid);
    }

    pub fn get(&self, uid: &str) -> Option<&Reason> {
        self.known.get(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::Warning;
    use super::super::phase::Reason;
    use super::{MAX_EARLY, Warnings};

    fn warning(about: &str, reason: &str) -> Warning {
        Warning {
            about: about.to_owned(),
            reason: Reason::new(reason, ""),
        }
    }

    #[test]
    fn a_warning_waits_for_its_object_and_goes_with_it() {
        let mut warnings = Warnings::default();
        warnings.put_early(warning("a", "first"));
        warnings.put_early(warning("a", "second"));
        assert_eq!(warnings.get("a"), None);
        warnings.adopt("a");
        assert_eq!(warnings.get("a").unwrap().reason, "second");
        warnings.forget("a");
        assert_eq!(warnings.get("a"), None);
    }

    #[test]
    fn a_flood_of_warnings_about_others_pushes_out_none_of_ours() {
        let mut warnings = Warnings::default();
        warnings.put(warning("ours", "known"));
        for index in 0..3 * MAX_EARLY {
            warnings.put_early(warning(&index.to_string(), "flood"));
        }
        assert_eq!(warnings.early.len(), MAX_EARLY);
        assert_eq!(warnings.get("ours").unwrap().reason, "known");
    }
}
