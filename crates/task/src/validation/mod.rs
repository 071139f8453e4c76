//! Converts untyped JSON to typed values and reports all errors together, in the format and wording of Pydantic 2.
//!
//! A parser is a function from a JSON value and a [`Validator`] to an `Option`. If it returns `None`, it has reported
//! the reason to the validator.

pub mod coerce;
mod error_detail;
mod fields;
mod truncate;
mod validator;

pub use error_detail::{ErrorDetail, LocItem};
pub use fields::Fields;
pub use validator::{MAX_ERRORS, Validator, validate};

#[cfg(test)]
mod tests;
