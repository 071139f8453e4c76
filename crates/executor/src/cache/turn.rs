//! Which attempt a task is in and how far it has come, as its owner says it: the one place where servers take turns.
//!
//! Opening the gates of a gang, giving way, ending for want of a place and beginning another attempt exclude each other, and
//! cannot be undone. They are decided in different objects (pods, Jobs), by several servers, one of which may be behind. So
//! each of them is first written here, with the version of the owner that was looked at: of two servers one loses, looks
//! again, and sees what the other has begun. What is written here is then done by any server, also when the first one dies.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::identity::Ignored;

/// More attempts, and more times to give way, than a task can have.
const MOST: u32 = 1_000_000;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The attempt; 1 is the first. Jobs of a later one are not believed.
    pub attempt: u32,
    /// How far it has come.
    pub stage: Stage,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// None of its nodes may begin yet.
    Waiting,
    /// Its nodes may begin. From now on only a failure, a deadline or a person ends them.
    Begun,
    /// It gives its place to an earlier task: all of its Jobs are suspended, until it tries again.
    GaveWay {
        /// How often it has.
        times: u32,
        /// When.
        at: Timestamp,
    },
    /// It is ended, because it had no place in time.
    Unplaced,
}

impl Turn {
    /// The first.
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
            Stage::Waiting => formatter.write_str("waiting"),
            Stage::Begun => formatter.write_str("begun"),
            Stage::GaveWay { times, at } => write!(formatter, "gave-way {times} {}", task::time::format(at)),
            Stage::Unplaced => formatter.write_str("unplaced"),
        }
    }
}

impl FromStr for Turn {
    type Err = Ignored;

    fn from_str(text: &str) -> Result<Self, Ignored> {
        let wrong = Ignored("its turn is none");
        let number = |text: &str| text.parse().ok().filter(|number| (1..=MOST).contains(number));
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        let (attempt, stage) = match words.as_slice() {
            [attempt, "waiting"] => (attempt, Stage::Waiting),
            [attempt, "begun"] => (attempt, Stage::Begun),
            [attempt, "unplaced"] => (attempt, Stage::Unplaced),
            [attempt, "gave-way", times, at] => {
                let (times, at) = number(times).zip(task::time::parse(at)).ok_or(wrong)?;
                (attempt, Stage::GaveWay { times, at })
            }
            _ => return Err(wrong),
        };
        Ok(Self {
            attempt: number(attempt).ok_or(wrong)?,
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
        fn a_turn_is_read_as_it_was_written(attempt in 1_u32..1_000_000, times in 1_u32..100, which in 0..4, second in 0_i64..2_000_000_000) {
            let stage = match which {
                0 => Stage::Waiting,
                1 => Stage::Begun,
                2 => Stage::Unplaced,
                _ => Stage::GaveWay { times, at: Timestamp::from_second(second).unwrap() },
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
