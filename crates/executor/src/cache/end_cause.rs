//! Why the server ended a node, as recorded on its Job or pod.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use task::definition::MAX_NODES;

use super::identity::InvalidObject;
use crate::labels;

const CANCELLED: &str = "cancelled";

/// Why the server ended a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// The node with this rank failed.
    NodeFailed(u32),
    /// The user canceled the task.
    Cancelled,
}

impl EndCause {
    /// The cause that the annotations of a Job or pod record, if the server ended it.
    ///
    /// # Errors
    /// The annotation is invalid.
    pub(super) fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Option<Self>, InvalidObject> {
        let cause = annotations.get(labels::ENDED_BECAUSE_OF);
        cause.map(|cause| cause.parse()).transpose()
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeFailed(rank) => rank.fmt(formatter),
            Self::Cancelled => formatter.write_str(CANCELLED),
        }
    }
}

impl FromStr for EndCause {
    type Err = InvalidObject;

    fn from_str(text: &str) -> Result<Self, InvalidObject> {
        if text == CANCELLED {
            return Ok(Self::Cancelled);
        }
        let rank = text.parse().ok().filter(|rank| *rank <= MAX_NODES);
        rank.map(Self::NodeFailed)
            .ok_or(InvalidObject("the failed node that it names is invalid"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::EndCause;

    #[test]
    fn a_cause_is_read_as_it_was_written() {
        for cause in [EndCause::NodeFailed(0), EndCause::NodeFailed(999), EndCause::Cancelled] {
            assert_eq!(cause.to_string().parse(), Ok(cause));
        }
        assert!("4294967295".parse::<EndCause>().is_err());
    }

    proptest! {
        #[test]
        fn other_texts_are_no_causes(text in ".{0,20}") {
            if let Ok(cause) = text.parse::<EndCause>() {
                prop_assert_eq!(cause.to_string().parse(), Ok(cause));
            }
        }
    }
}
