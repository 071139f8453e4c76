//! Tokens that tell submissions apart, and the hash that they and the user's label are made with.

use std::collections::BTreeMap;

use sha2::{Digest, Sha224};
use task::UserName;

use crate::labels::SUBMISSION;

/// A hash of several parts, as a label value. Each part is prefixed with its length, so that moving a byte from one
/// part to the next changes the hash.
#[must_use]
pub fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha224::new();
    for part in parts {
        if parts.len() > 1 {
            hash.update((part.len() as u64).to_be_bytes());
        }
        hash.update(part);
    }
    let digits = hash.finalize().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// The token that all submits of a user with the same `Idempotency-Key` share.
#[must_use]
pub fn key_token(user: &UserName, key: &str) -> String {
    hash(&[user.as_str().as_bytes(), key.as_bytes()])
}

/// Whether a token derives from an `Idempotency-Key`. Random tokens are shorter.
#[must_use]
pub fn is_key_token(token: &str) -> bool {
    token.len() == 2 * <Sha224 as Digest>::output_size()
}

/// The token of the submission that created an object.
#[must_use]
pub fn submission(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(SUBMISSION).map(String::as_str)
}
