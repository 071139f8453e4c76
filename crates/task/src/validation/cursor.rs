//! Tracks the current location in the input, and collects errors.

use serde_json::Value;

use super::excerpt::{MAX_KEY, beginning, excerpt};
use super::{ErrorDetail, Location};

/// The maximum number of errors reported for one input. An input of some megabytes can have a million errors, each of
/// which repeats a part of the input.
pub const MAX_ERRORS: usize = 100;

/// The maximum length of a message in bytes: it may repeat a key.
const MAX_MESSAGE: usize = 1000;

/// The location of the value being parsed, and the errors of the whole input so far.
#[derive(Debug)]
pub struct Cursor {
    path: Vec<Location>,
    errors: Vec<ErrorDetail>,
}

/// A point in time of a [`Cursor`]; see [`Cursor::clean_since`].
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Cursor {
    /// Creates a cursor at the root of an input (`body`, `query`, `header`, or `path`).
    #[must_use]
    pub fn at(root: &str) -> Self {
        Self {
            path: vec![root.into()],
            errors: Vec::new(),
        }
    }

    /// Runs `inner` with `step` appended to the location.
    pub fn within<R>(&mut self, step: impl Into<Location>, inner: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(step.into());
        let result = inner(self);
        self.path.pop();
        result
    }

    /// Reports an error for the value at the cursor. Returns `None`, so that a parser can end with this call.
    pub fn report<T>(&mut self, kind: &'static str, msg: impl Into<String>, input: &Value) -> Option<T> {
        self.push(kind, msg.into(), input, None)
    }

    /// Reports an error with a context, such as the bound that the value violates.
    pub fn report_with<T>(
        &mut self,
        kind: &'static str,
        msg: impl Into<String>,
        input: &Value,
        ctx: Value,
    ) -> Option<T> {
        self.push(kind, msg.into(), input, Some(ctx))
    }

    /// Reports why a value of the right type is invalid (Pydantic's `value_error`).
    pub fn refuse<T>(&mut self, reason: impl Into<String>, input: &Value) -> Option<T> {
        if !self.is_full() {
            let reason = beginning(&reason.into(), MAX_MESSAGE);
            let refused = ErrorDetail::refused(self.shown_path(), reason, excerpt(input));
            self.errors.push(refused);
        }
        None
    }

    /// Whether [`MAX_ERRORS`] is reached. Further errors are dropped, so a parser can stop early.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// Remembers the current number of errors for [`Cursor::clean_since`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.errors.len())
    }

    /// Whether no error has been reported since `mark`.
    #[must_use]
    pub fn clean_since(&self, mark: Mark) -> bool {
        self.errors.len() == mark.0
    }

    /// All reported errors, in order.
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
