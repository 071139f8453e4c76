//! The short ID of a task or volume.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The number of characters in an ID.
pub const LENGTH: usize = 8;

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// An ID of eight characters `[0-9a-z]`: short enough for Kubernetes names, with 2.8 trillion possible values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// Generates a random ID. The caller must handle the rare case that it is already in use.
    #[must_use]
    pub fn random() -> Self {
        Self(
            (0..LENGTH)
                .map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]))
                .collect(),
        )
    }

    /// Derives an ID from a hash of `parts`, so that a repeated request finds what the first one created.
    #[must_use]
    pub fn from_hash(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // Hash the length too, so that ("ab", "c") and ("a", "bc") differ.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut number = u64::from_be_bytes(std::array::from_fn(|index| digest[index]));
        let mut text = String::with_capacity(LENGTH);
        for _ in 0..LENGTH {
            text.push(char::from(ALPHABET[(number % 36) as usize]));
            number /= 36;
        }
        Self(text)
    }

    /// Whether `text` has the form of an ID.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte))
    }

    /// Checks the form of an existing ID, e.g., from a label. Returns `None` if it is invalid.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::is_valid(text).then(|| Self(text.to_owned()))
    }

    /// The ID as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn the_same_parts_give_the_same_id_and_others_do_not() {
        let id = Id::from_hash(&[b"ab", b"c"]);
        assert_eq!(id, Id::from_hash(&[b"ab", b"c"]));
        assert_ne!(id, Id::from_hash(&[b"a", b"bc"]));
        assert_eq!(id.as_str().len(), 8);
    }

    #[test]
    fn a_random_id_is_eight_lower_case_letters_or_digits() {
        let id = Id::random();
        assert!(
            id.as_str()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        );
        assert_eq!(id.as_str().len(), 8);
    }
}
