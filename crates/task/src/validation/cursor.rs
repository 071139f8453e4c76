//! Where validation stands in the input, and what it has found so far.

use serde_json::Value;

use super::excerpt::{MAX_KEY, beginning, excerpt};
use super::{ErrorDetail, Location};

/// The most errors that are told of one input. A person mends them a few at a time, and an input of some megabytes can have
/// a million, each of which repeats a part of it.
pub const MAX_ERRORS: usize = 100;

/// The most bytes of a message, which may repeat a key.
const MAX_MESSAGE: usize = 1000;

/// The place of the value being parsed, and the errors of the whole input so far.
#[derive(Debug)]
pub struct Cursor {
    path: Vec<Location>,
    errors: Vec<ErrorDetail>,
}

/// A moment of a [`Cursor`]; see [`Cursor::clean_since`].
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Cursor {
    /// A cursor at the root of an input (`body`, `query`, `header` or `path`).
    #[must_use]
    pub fn at(root: &str) -> Self {
        Self {
            path: vec![root.into()],
            errors: Vec::new(),
        }
    }

    /// Runs `inner` one step further in.
    pub fn within<R>(&mut self, step: impl Into<Location>, inner: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(step.into());
        let result = inner(self);
        self.path.pop();
        result
    }

    /// Records an error of the value at the cursor. Always `None`, so that a parser can end with it.
    pub fn report<T>(&mut self, kind: &'static str, msg: impl Into<String>, input: &Value) -> Option<T> {
        self.push(kind, msg.into(), input, None)
    }

    /// Records an error that names the bound which the value broke.
    pub fn report_with<T>(
        &mut self,
        kind: &'static str,
        msg: impl Into<String>,
        input: &Value,
        ctx: Value,
    ) -> Option<T> {
        self.push(kind, msg.into(), input, Some(ctx))
    }

    /// Records that a value of the right type is refused, and why (Pydantic's `value_error`).
    pub fn refuse<T>(&mut self, reason: impl Into<String>, input: &Value) -> Option<T> {
        if !self.is_full() {
            let reason = beginning(&reason.into(), MAX_MESSAGE);
            let refused = ErrorDetail::refused(self.shown_path(), reason, excerpt(input));
            self.errors.push(refused);
        }
        None
    }

    /// Whether no further error is told, so that there is no use in looking on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// The present moment, to be compared with a later one.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.errors.len())
    }

    /// Whether nothing has been reported since `mark`.
    #[must_use]
    pub fn clean_since(&self, mark: Mark) -> bool {
        self.errors.len() == mark.0
    }

    /// Everything that was reported, in order.
    #[must_use]
    pub fn into_errors(self) -> Vec<ErrorDetail> {
        self.errors
    }

    fn push<T>(&mut self, kind: &'static str, msg: String, input: &Value, ctx: Option<Value>) -> Option<T> {
        if !self.is_full() {
            self.errors.push(ErrorDetail {
                kind,
                loc: self.shown_path(),
                msg: beginning(&msg, MAX_MESSAGE),
                input: excerpt(input),
                ctx,
            });
        }
        None
    }

    fn shown_path(&self) -> Vec<Location> {
        let shown = |step: &Location| match step {
            Location::Key(key) => Location::Key(beginning(key, MAX_KEY)),
            Location::Index(index) => Location::Index(*index),
        };
        self.path.iter().map(shown).collect()
    }
}
