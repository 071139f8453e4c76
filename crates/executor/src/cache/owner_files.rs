//! The files that the nodes of a task may fetch from the server, as the owner of the task records them.

use std::collections::BTreeMap;

use files::ManifestHash;

use crate::labels;

/// The most file sets of a task.
const MAX_SETS: usize = 100;

/// The most tries of a submission whose tokens count. Each is a repeated request before the first was answered.
const MAX_TOKENS: usize = 32;

/// The files that the nodes of a task may fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerFiles {
    /// Whose files they are.
    pub username: String,
    /// The file sets.
    pub sets: Vec<ManifestHash>,
    /// The hashes of the secrets of tokens, as text.
    tokens: Vec<Box<str>>,
}

impl OwnerFiles {
    /// Reads the annotations of the owner. What is not a file set or a hash is ignored.
    pub(crate) fn from_annotations(username: &str, annotations: &BTreeMap<String, String>) -> Option<Self> {
        let sets = annotations.get(labels::FILE_SETS)?.split(',');
        let sets: Vec<ManifestHash> = sets.filter_map(|set| set.parse().ok()).take(MAX_SETS).collect();
        let tokens = annotations.range(labels::FILES_TOKEN.to_owned()..);
        let tokens = tokens.take_while(|(name, _)| name.starts_with(labels::FILES_TOKEN));
        let is_hash = |text: &&String| text.len() == 64;
        Some(Self {
            username: username.to_owned(),
            sets,
            tokens: tokens
                .map(|(_, hash)| hash)
                .filter(is_hash)
                .take(MAX_TOKENS)
                .map(|hash| hash.as_str().into())
                .collect(),
        })
    }

    /// Whether the secret with this hash gives access.
    pub(crate) fn has_token(&self, hash: &str) -> bool {
        self.tokens.iter().any(|known| **known == *hash)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::OwnerFiles;

    #[test]
    fn the_owner_says_which_files_which_token_gives_access_to() {
        let (set, hash) = ("a".repeat(64), "b".repeat(64));
        let mut annotations = BTreeMap::from([
            ("k8s-cli/files-token-1".to_owned(), hash.clone()),
            ("k8s-cli/files-token-2".to_owned(), "short".to_owned()),
            ("k8s-cli/z".to_owned(), "c".repeat(64)),
        ]);
        assert_eq!(OwnerFiles::from_annotations("alice", &annotations), None);
        annotations.insert("k8s-cli/file-sets".to_owned(), format!("{set},../x"));
        let files = OwnerFiles::from_annotations("alice", &annotations).unwrap();
        assert_eq!(files.sets, [set.parse().unwrap()]);
        assert!(files.has_token(&hash));
        assert!(!files.has_token("short") && !files.has_token(&"c".repeat(64)) && !files.has_token(""));
    }
}
