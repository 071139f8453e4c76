//! Which user an object belongs to, and the labels that say so.

use std::collections::BTreeMap;

use task::UserName;

use crate::labels::{USER, USERNAME};
use crate::tokens::hash;

/// The user that an object belongs to, according to its labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserKey(String);

impl UserKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key on objects that this program creates for `user`.
    #[must_use]
    pub fn of(user: &UserName) -> Self {
        Self(user_label(user))
    }

    /// The key on objects that the Python implementation creates for `user`. It replaces `@` with `-`, and rejects
    /// names with other characters that labels don't allow.
    #[must_use]
    pub fn of_python(user: &UserName) -> Self {
        Self::python(&user.as_str().replace('@', "-"))
    }

    /// Reads the key from an object's labels.
    #[must_use]
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        match labels.get(USER) {
            Some(encoded) => Some(Self(encoded.clone())),
            None => labels.get(USERNAME).map(|username| Self::python(username)),
        }
    }

    /// The prefix separates the two kinds of keys, because a hash contains no colon.
    fn python(username: &str) -> Self {
        Self(format!("python:{username}"))
    }

    /// Sorts before every other key, as the start of a range over all users.
    #[must_use]
    pub fn first() -> Self {
        Self(String::new())
    }
}

/// The value of [`USER`]: the SHA-224 of the name in hexadecimal. Its 56 characters fit a label, which allows 63.
#[must_use]
pub fn user_label(user: &UserName) -> String {
    hash(&[user.as_str().as_bytes()])
}

/// The value of [`USERNAME`]: characters that labels don't allow become `-`.
#[must_use]
pub fn username_label(user: &UserName) -> String {
    let label: String = user
        .as_str()
        .chars()
        .map(|character| match character {
            '-' | '_' | '.' => character,
            character if character.is_ascii_alphanumeric() => character,
            _ => '-',
        })
        .take(task::name::MAX_LABEL_LENGTH)
        .collect();
    let label = label.trim_matches(|end: char| !end.is_ascii_alphanumeric());
    if label.is_empty() {
        "user".to_owned()
    } else {
        label.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use task::UserName;

    use super::{USER, USERNAME, UserKey, user_label, username_label};

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[test]
    fn users_that_share_a_readable_label_do_not_share_the_one_that_counts() {
        assert_eq!(username_label(&user("a@b")), username_label(&user("a-b")));
        assert_ne!(user_label(&user("a@b")), user_label(&user("a-b")));
    }

    #[test]
    fn every_user_has_a_valid_label() {
        for name in [
            "alice@example.com",
            "x,y",
            "x=y",
            "日本",
            "-",
            &"a".repeat(200),
            &"é".repeat(100),
        ] {
            let label = username_label(&user(name));
            assert!(!label.is_empty() && label.len() <= 63, "{label}");
            assert!(label.starts_with(|end: char| end.is_ascii_alphanumeric()), "{label}");
            assert!(label.ends_with(|end: char| end.is_ascii_alphanumeric()), "{label}");
            assert_eq!(user_label(&user(name)).len(), 56);
        }
        assert_eq!(username_label(&user("alice@example.com")), "alice-example.com");
    }

    #[test]
    fn an_object_of_the_python_implementation_belongs_to_whom_it_would_say() {
        let python = BTreeMap::from([(USERNAME.to_owned(), "a-b".to_owned())]);
        let key = UserKey::from_labels(&python).unwrap();
        assert_eq!(key, UserKey::of_python(&user("a@b")));
        assert_eq!(key, UserKey::of_python(&user("a-b")));
        assert_ne!(key, UserKey::of_python(&user("a b")));
    }

    #[test]
    fn an_object_of_ours_belongs_to_one_exact_user() {
        let ours = BTreeMap::from([
            (USERNAME.to_owned(), "a-b".to_owned()),
            (USER.to_owned(), user_label(&user("a@b"))),
        ]);
        let key = UserKey::from_labels(&ours).unwrap();
        assert_eq!(key, UserKey::of(&user("a@b")));
        assert_ne!(key, UserKey::of(&user("a-b")));
        assert_ne!(key, UserKey::of_python(&user("a-b")));
    }
}
