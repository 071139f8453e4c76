//! The token with which the nodes of a task fetch its files: the ID of the task, and a secret.
//!
//! The secret is in a Secret of the task, and its hash in an annotation of the owner, which every server watches. So nobody
//! needs the permission to read Secrets, and any server can check a token.

use sha2::{Digest, Sha256};
use task::Id;
use task::definition::Secret;
use uuid::Uuid;

/// The secret of a token: 256 random bits, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilesSecret(Secret);

/// A token that somebody has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentToken {
    /// The ID of the task.
    pub id: Id,
    /// The hash of the secret.
    pub hash: String,
}

impl FilesSecret {
    /// A secret that nobody knows.
    pub(super) fn random() -> Self {
        // Each has 122 random bits.
        let random = [(); 3].map(|()| Uuid::new_v4());
        let bytes = random.map(Uuid::into_bytes).concat();
        Self(Secret::from(format!("{:x}", Sha256::digest(bytes))))
    }

    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self(Secret::from("5".repeat(64)))
    }

    /// The hash that is in the owner of the task.
    pub(crate) fn hash(&self) -> String {
        hash(self.0.reveal())
    }

    /// The token of the task with this ID.
    pub(crate) fn token(&self, id: &Id) -> String {
        format!("{id}.{}", self.0.reveal())
    }
}

impl SentToken {
    /// Reads a token.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let id = Id::new(id)?;
        (secret.len() == 64).then(|| Self { id, hash: hash(secret) })
    }
}

/// Comparing hashes leaks no timing information about the secret.
fn hash(secret: &str) -> String {
    format!("{:x}", Sha256::digest(secret))
}

#[cfg(test)]
mod tests {
    use task::Id;

    use super::{FilesSecret, SentToken};

    #[test]
    fn a_token_names_its_task_and_proves_that_the_sender_knows_the_secret() {
        let id = Id::random();
        let (secret, other) = (FilesSecret::random(), FilesSecret::random());
        let sent = SentToken::parse(&secret.token(&id)).unwrap();
        assert_eq!((sent.id, sent.hash), (id.clone(), secret.hash()));
        assert_ne!(secret.hash(), other.hash());
        let token = secret.token(&id);
        let secret = token.split_once('.').unwrap().1;
        assert!(!format!("{other:?}{:?}", other.hash()).contains(secret));
        for wrong in [
            "",
            ".",
            secret,
            &format!("{id}."),
            &format!("../x.{secret}"),
            &token[..70],
        ] {
            assert_eq!(SentToken::parse(wrong), None, "{wrong}");
        }
    }
}
