//! Where the system does not say whose socket it is: a secret in a file that only its owner can read.
//!
//! A client sends it with each request. Before that it asks the server for a proof that it knows the secret, too: a hash of it
//! and of a word that the client has chosen, which tells nothing to whom does not know it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The header with the secret.
pub const TOKEN_HEADER: &str = "k8s-cli-token";
/// The header with the client's word.
pub const CHALLENGE_HEADER: &str = "k8s-cli-challenge";
/// The header of the server's answer to it.
pub const PROOF_HEADER: &str = "k8s-cli-proof";

/// A secret of one server.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The file of the server that listens at a port, below its state folder.
    #[must_use]
    pub fn path(folder: &Path, port: u16) -> PathBuf {
        folder.join(format!("api-{port}.token"))
    }

    /// Makes a new secret, and a file with it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let token = Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()));
        let new = path.with_extension("token.new");
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(token.0.as_bytes())?;
        std::fs::rename(&new, path)?;
        Ok(token)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(Self(std::fs::read_to_string(path)?.trim().to_owned()))
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is it. Hashes are compared, so that the time it takes tells nothing.
    #[must_use]
    pub fn is(&self, sent: &[u8]) -> bool {
        Sha256::digest(sent) == Sha256::digest(self.0.as_bytes())
    }

    /// The proof of knowing it, for one challenge.
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
    /// A secret is in no log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

/// A word for one proof.
#[must_use]
pub fn challenge() -> String {
    Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Token, challenge};

    #[test]
    fn only_its_owner_reads_the_file_and_each_server_has_its_own() {
        let folder = std::env::temp_dir().join(format!("k8s-cli-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = Token::path(&folder, 8000);
        let first = Token::create(&path).unwrap();
        let token = Token::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Token::read(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(read.is(token.as_str().as_bytes()) && !read.is(first.as_str().as_bytes()) && !read.is(b""));
        assert_eq!(token.as_str().len(), 64);
    }

    #[test]
    fn a_proof_is_of_one_secret_and_one_challenge() {
        let [token, other] = ["a", "b"].map(|text| Token(text.to_owned()));
        let [first, second] = [challenge(), challenge()];
        let proof = |token: &Token, challenge: &str| token.proof(challenge.as_bytes());
        assert_eq!(proof(&token, &first), proof(&token, &first));
        assert_ne!(proof(&token, &first), proof(&token, &second));
        assert_ne!(proof(&token, &first), proof(&other, &first));
    }
}
