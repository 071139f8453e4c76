//! Mutual authentication with a secret file, for systems that do not report the owner of a socket.
//!
//! The file is readable by its owner only. A client sends the secret with each request, but first the server must prove
//! that it knows the secret, too: with a hash of the secret and a challenge chosen by the client, which does not reveal
//! the secret.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Request header with the secret.
pub const TOKEN_HEADER: &str = "k8s-cli-token";
/// Request header with the client's challenge.
pub const CHALLENGE_HEADER: &str = "k8s-cli-challenge";
/// Response header with the server's proof.
pub const PROOF_HEADER: &str = "k8s-cli-proof";

/// The secret of a server.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The secret file in `dir` for the server that listens on `port`.
    #[must_use]
    pub fn path(dir: &Path, port: u16) -> PathBuf {
        dir.join(format!("api-{port}.token"))
    }

    /// Creates a new secret and writes it to a file. The file is created with its final permissions and renamed into
    /// place, so that it is never readable by others or incomplete.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let token = Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
        let temporary = path.with_extension("token.new");
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(token.0.as_bytes())?;
        std::fs::rename(&temporary, path)?;
        Ok(token)
    }

    /// Reads a secret file.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self(std::fs::read_to_string(path)?.trim().to_owned()))
    }

    /// The secret as sent in [`TOKEN_HEADER`].
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `sent` is this secret. Compares hashes, so that the duration does not reveal matching bytes.
    #[must_use]
    pub fn matches(&self, sent: &[u8]) -> bool {
        Sha256::digest(sent) == Sha256::digest(self.0.as_bytes())
    }

    /// The proof of knowing the secret, for one challenge.
    #[must_use]
    pub fn proof(&self, challenge: &[u8]) -> String {
        let hash = Sha256::new()
            .chain_update(self.0.as_bytes())
            .chain_update(b":")
            .chain_update(challenge);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Token {
    /// Hides the secret, which must not get into logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

/// A random challenge for one proof.
#[must_use]
pub fn new_challenge() -> String {
    Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Token, new_challenge};

    #[test]
    fn only_its_owner_reads_the_file_and_each_server_has_its_own() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-token-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = Token::path(&dir, 8000);
        let first = Token::create(&path).unwrap();
        let token = Token::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Token::read(&path).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(
            read.matches(token.as_str().as_bytes()) && !read.matches(first.as_str().as_bytes()) && !read.matches(b"")
        );
        assert_eq!(token.as_str().len(), 64);
    }

    #[test]
    fn a_proof_is_of_one_secret_and_one_challenge() {
        let [token, other] = ["a", "b"].map(|text| Token(text.to_owned()));
        let [first, second] = [new_challenge(), new_challenge()];
        let proof = |token: &Token, challenge: &str| token.proof(challenge.as_bytes());
        assert_eq!(proof(&token, &first), proof(&token, &first));
        assert_ne!(proof(&token, &first), proof(&token, &second));
        assert_ne!(proof(&token, &first), proof(&other, &first));
    }
}
