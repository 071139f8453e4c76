//! The short identifier of a task or a volume.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// How many characters an identifier has.
pub const LENGTH: usize = 8;

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Eight characters of `[0-9a-z]`: short enough for a Kubernetes name, and one of 2.8 million million.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Id(String);

impl Id {
    /// A random identifier. Its owner must still notice when it is taken.
    #[must_use]
    pub fn random() -> Self {
        Self(
            (0..LENGTH)
                .map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())]))
                .collect(),
        )
    }

    /// The identifier that `parts` always give: how a repeated request finds what the first one made.
    #[must_use]
    pub fn derived(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // The length keeps ("ab", "c") and ("a", "bc") apart.
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

    /// Whether this could be one.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte))
    }

    /// An identifier that was made before, such as one in a label.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::is_one(text).then(|| Self(text.to_owned()))
    }

    /// The identifier as text.
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
        let id = Id::derived(&[b"ab", b"c"]);
        assert_eq!(id, Id::derived(&[b"ab", b"c"]));
        assert_ne!(id, Id::derived(&[b"a", b"bc"]));
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
