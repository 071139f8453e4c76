//! Tokens that tell submissions apart, and the hash that they and the user's label are made with.

use std::collections::BTreeMap;

use sha2::{Digest, Sha224};
use task::{Id, UserName};

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

/// What the objects of a submission look like. A token says it, so that nobody can add objects of the other kind to a task:
/// each kind has one object with a name that nobody else can take, and everything else belongs to that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One Job without an owner.
    Single,
    /// A ConfigMap, and the Jobs that it owns.
    Owned,
}

const SINGLE: char = 's';
const OWNED: char = 'o';

/// The length of a random token: a character for the shape, and three IDs. Those of older servers are shorter.
const RANDOM_LENGTH: usize = 25;

/// The token of a submission without an `Idempotency-Key`.
#[must_use]
pub fn random(shape: Shape) -> String {
    let shape = match shape {
        Shape::Single => SINGLE,
        Shape::Owned => OWNED,
    };
    format!("{shape}{}{}{}", Id::random(), Id::random(), Id::random())
}

/// The shape of a submission with this token; `None` for one of an older server, which could have any.
#[must_use]
pub fn shape(token: &str) -> Option<Shape> {
    if is_key_token(token) {
        return Some(Shape::Owned);
    }
    match token.chars().next().filter(|_| token.len() == RANDOM_LENGTH) {
        Some(SINGLE) => Some(Shape::Single),
        Some(OWNED) => Some(Shape::Owned),
        _ => None,
    }
}

/// The ID of a task with a random token, whose user may have given it a name.
///
/// It derives from both, so that the token of another task, or another name, cannot be combined with it.
#[must_use]
pub fn id(token: &str, name: Option<&str>) -> Id {
    Id::from_hash(&[token.as_bytes(), name.unwrap_or_default().as_bytes()])
}

/// Whether the ID of a task derives from its token and its name.
#[must_use]
pub fn has_own_id(token: &str) -> bool {
    shape(token).is_some() && !is_key_token(token)
}

/// Whether this is the ID of a task with this token and name. Of other tokens, it may be any.
#[must_use]
pub fn is_id(id: &str, token: &str, name: &str) -> bool {
    let is_generated = name.strip_prefix(GENERATED_NAME).is_some_and(|rest| rest == id);
    let name = Some(name).filter(|_| !is_generated);
    !has_own_id(token) || self::id(token, name).as_str() == id
}

/// The beginning of the name of a task whose user gave it none; the ID follows.
const GENERATED_NAME: &str = "task-";

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

#[cfg(test)]
mod tests {
    use task::{Name, UserName};

    use super::{Shape, has_own_id, id, is_id, key_token, random, shape};

    #[test]
    fn a_token_says_what_its_objects_look_like() {
        assert_eq!(shape(&random(Shape::Single)), Some(Shape::Single));
        assert_eq!(shape(&random(Shape::Owned)), Some(Shape::Owned));
        let user = UserName::parse("alice@example.com").unwrap();
        let of_key = key_token(&user, "key");
        assert_eq!((shape(&of_key), has_own_id(&of_key)), (Some(Shape::Owned), false));
        for older in ["", "s", "token", "o123456789abcdef", "s123456789abcdef"] {
            assert_eq!(shape(older), None, "{older}");
        }
    }

    #[test]
    fn an_id_belongs_to_one_token_and_one_name() {
        let token = random(Shape::Single);
        let named = id(&token, Some("train"));
        assert!(is_id(named.as_str(), &token, "train"));
        let unnamed = id(&token, None);
        let generated = Name::generate("task", &unnamed);
        assert!(is_id(unnamed.as_str(), &token, generated.as_str()));
        // Another name, also one that looks generated, and another token.
        for name in ["other", &format!("task-{named}"), ""] {
            assert!(!is_id(named.as_str(), &token, name), "{name}");
        }
        assert!(!is_id(unnamed.as_str(), &token, "train"));
        assert!(!is_id(named.as_str(), &random(Shape::Single), "train"));
        assert!(
            is_id(named.as_str(), "token", "train"),
            "that of an older server may be any"
        );
    }
}
