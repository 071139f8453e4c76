//! Runs parsers on an input: tracks the location of the value being parsed, and collects errors.

use serde_json::Value;

use super::error_detail::{ErrorDetail, LocItem};
use super::truncate::{MAX_KEY_BYTES, truncate_str, truncate_value};

/// The maximum number of errors reported for one input. An input of some megabytes can have a million errors, each of
/// which repeats a part of the input.
pub const MAX_ERRORS: usize = 100;

/// The maximum length of a message in bytes: it may repeat a key.
const MAX_MESSAGE_BYTES: usize = 1000;

/// The maximum number of warnings for one input. Each becomes a header of the response.
const MAX_WARNINGS: usize = 32;

/// The location of the value being parsed, and the errors and warnings of the whole input so far.
#[derive(Debug)]
pub struct Validator {
    loc: Vec<LocItem>,
    errors: Vec<ErrorDetail>,
    warnings: Vec<String>,
}

impl Validator {
    /// Creates a validator at the root of an input (`body`, `query`, `header`, or `path`).
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self {
            loc: vec![root.into()],
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Runs `inner` with `item` appended to the location.
    pub fn within<R>(&mut self, item: impl Into<LocItem>, inner: impl FnOnce(&mut Self) -> R) -> R {
        self.loc.push(item.into());
        let result = inner(self);
        self.loc.pop();
        result
    }

    /// Reports an error for the value being parsed. Returns `None`, so that a parser can end with this call.
    pub fn push_error<T>(&mut self, kind: &'static str, msg: impl Into<String>, input: &Value) -> Option<T> {
        self.push(kind, msg.into(), input, None)
    }

    /// Reports an error with a context, such as the bound that the value violates.
    pub fn push_error_with_context<T>(
        &mut self,
        kind: &'static str,
        msg: impl Into<String>,
        input: &Value,
        ctx: Value,
    ) -> Option<T> {
        self.push(kind, msg.into(), input, Some(ctx))
    }

    /// Reports why a value of the right type is invalid (Pydantic's `value_error`).
    pub fn value_error<T>(&mut self, reason: impl Into<String>, input: &Value) -> Option<T> {
        if !self.is_full() {
            let reason = truncate_str(&reason.into(), MAX_MESSAGE_BYTES);
            let detail = ErrorDetail::value_error(self.truncated_loc(), reason, truncate_value(input));
            self.errors.push(detail);
        }
        None
    }

    /// Warns about something that is valid, but not what the user may expect. The same warning is kept once.
    pub fn warn(&mut self, warning: impl Into<String>) {
        let warning = truncate_str(&warning.into(), MAX_MESSAGE_BYTES);
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Takes the warnings so far.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// A validator at the same location, for a part of the input that is parsed in more than one way.
    #[must_use]
    pub fn branch(&self) -> Self {
        Self {
            loc: self.loc.clone(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Adds the errors and warnings of a [branch](Self::branch).
    pub fn absorb(&mut self, branch: Self) {
        let free = MAX_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(branch.errors.into_iter().take(free));
        for warning in branch.warnings {
            self.warn(warning);
        }
    }

    /// Whether [`MAX_ERRORS`] is reached. Further errors are dropped, so a parser can stop early.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errors.len() >= MAX_ERRORS
    }

    /// The number of errors so far, at most [`MAX_ERRORS`].
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.errors.len()
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
                loc: self.truncated_loc(),
                msg: truncate_str(&msg, MAX_MESSAGE_BYTES),
                input: truncate_value(input),
                ctx,
            });
        }
        None
    }

    fn truncated_loc(&self) -> Vec<LocItem> {
        let truncated = |item: &LocItem| match item {
            LocItem::Key(key) => LocItem::Key(truncate_str(key, MAX_KEY_BYTES)),
            LocItem::Index(index) => LocItem::Index(*index),
        };
        self.loc.iter().map(truncated).collect()
    }
}

/// Runs a parser on `input`. On failure, returns every error that it reported, in the order of declaration of the
/// fields. Their locations start with `root`, e.g., `body`.
pub fn validate<T>(
    input: &Value,
    root: &'static str,
    parser: impl FnOnce(&Value, &mut Validator) -> Option<T>,
) -> Result<T, Vec<ErrorDetail>> {
    let mut validator = Validator::new(root);
    let parsed = parser(input, &mut validator);
    match (parsed, validator.into_errors()) {
        (Some(parsed), errors) if errors.is_empty() => Ok(parsed),
        (_, errors) => Err(errors),
    }
}
