//! The current attempt of a task and its stage, as recorded in the owner. All servers synchronize on this.
//!
//! Opening a gate, giving way, ending for lack of resources, and starting the next attempt exclude each other and are
//! irreversible. They change different objects (pods, Jobs), and several servers may decide on them, one of which may
//! lag. Each step is therefore first recorded here, with the version of the owner that the decision was based on. If
//! two servers try, one gets a conflict, reads the task again, and sees the step of the other. Any server then carries
//! out a recorded step, even if the one that recorded it dies.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::identity::InvalidObject;

/// An upper bound on attempts, and on how often a task gives way, that no task can reach.
const MAX_NUMBER: u32 = 1_000_000;

/// The current attempt and its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The attempt, starting at 1. Jobs with a later attempt are ignored.
    pub attempt: u32,
    /// How far the attempt has come.
    pub stage: Stage,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The group of the task has not started it yet, and its Jobs are suspended.
    Held,
    /// No node may begin yet.
    Waiting,
    /// The nodes may begin. From now on the attempt ends only by finishing, failing, exceeding a deadline, or being
    /// stopped or canceled.
    Started,
    /// The task gives way to an earlier one: its Jobs are suspended until it retries.
    Preempted {
        /// How many times it has given way.
        times: u32,
        /// When it last gave way.
        at: Timestamp,
    },
    /// The attempt ends because it could not be scheduled in time.
    ProvisionTimedOut,
    /// The task ends because its user canceled it.
    Cancelled,
}

impl Turn {
    /// The turn of a new task.
    pub const FIRST: Self = Self {
        attempt: 1,
        stage: Stage::Waiting,
    };

    /// The same attempt at another stage.
    pub fn at(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.attempt)?;
        match self.stage {
            Stage::Held => formatter.write_str("held"),
            Stage::Waiting => formatter.write_str("waiting"),
            Stage::Started => formatter.write_str("begun"),
            Stage::Preempted { times, at } => write!(formatter, "gave-way {times} {}", task::time::format(at)),
            Stage::ProvisionTimedOut => formatter.write_str("unplaced"),
            Stage::Cancelled => formatter.write_str("cancelled"),
        }
    }
}

impl FromStr for Turn {
    type Err = InvalidObject;

    fn from_str(text: &str) -> Result<Self, InvalidObject> {
        let invalid = InvalidObject("its turn is invalid");
        let number = |text: &str| text.parse().ok().filter(|number| (1..=MAX_NUMBER).contains(number));
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        let (attempt, stage) = match words.as_slice() {
            [attempt, "held"] => (attempt, Stage::Held),
            [attempt, "waiting"] => (attempt, Stage::Waiting),
            [attempt, "begun"] => (attempt, Stage::Started),
            [attempt, "unplaced"] => (attempt, Stage::ProvisionTimedOut),
            [attempt, "cancelled"] => (attempt, Stage::Cancelled),
            [attempt, "gave-way", times, at] => {
                let (times, at) = number(times).zip(task::time::parse(at)).ok_or(invalid)?;
                (attempt, Stage::Preempted { times, at })
            }
            _ => return Err(invalid),
        };
        Ok(Self {
            attempt: number(attempt).ok_or(invalid)?,
            stage,
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{Stage, Turn};

    proptest! {
        #[test]
        fn a_turn_is_read_as_it_was_written(attempt in 1_u32..1_000_000, times in 1_u32..100, which in 0..6, second in 0_i64..2_000_000_000) {
            let stage = match which {
                0 => Stage::Waiting,
                1 => Stage::Started,
                2 => Stage::ProvisionTimedOut,
                3 => Stage::Cancelled,
                4 => Stage::Held,
                _ => Stage::Preempted { times, at: Timestamp::from_second(second).unwrap() },
            };
            let turn = Turn { attempt, stage };
            prop_assert_eq!(turn.to_string().parse(), Ok(turn));
        }

        #[test]
        fn other_texts_are_no_turns(text in ".{0,40}") {
            if let Ok(turn) = text.parse::<Turn>() {
                prop_assert_eq!(turn.to_string().parse(), Ok(turn));
            }
        }
    }

    #[test]
    fn numbers_have_bounds() {
        for text in [
            "0 waiting",
            "4294967295 begun",
            "1 gave-way 0 2026-11-23T15:30:34Z",
            "1",
            "",
            "1 begun ",
        ] {
            assert!(text.parse::<Turn>().is_err(), "{text}");
        }
    }
}
