//! Where validation stands in the input, and what it has found so far.

use serde_json::Value;

use super::{ErrorDetail, Location};

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
        let refused = ErrorDetail::refused(self.path.clone(), reason, input.clone());
        self.errors.push(refused);
        None
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
        self.errors.push(ErrorDetail {
            kind,
            loc: self.path.clone(),
            msg,
            input: input.clone(),
            ctx,
        });
        None
    }
}
