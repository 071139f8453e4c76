//! The contents of the file sets that nodes are fetching: each request asks for a few, and must ask for no others.

use std::collections::VecDeque;
use std::sync::Arc;

use archive::FileStore;
use files::{Content, ContentHash, ManifestHash};
use task::UserName;
use tokio::sync::Mutex;

/// How many file sets, and how many contents of all of them, are kept. A content takes 36 bytes.
const MAX_SETS: usize = 16;
const MAX_CONTENTS: usize = 250_000;

/// The file sets that were fetched last, the latest one first.
#[derive(Default)]
pub struct FileSets(Mutex<VecDeque<Known>>);

struct Known {
    user: UserName,
    set: ManifestHash,
    contents: Arc<SetContents>,
}

/// The contents of a file set with their lengths, sorted.
pub(crate) struct SetContents(Vec<(ContentHash, u32)>);

impl SetContents {
    /// The content with this hash, if the file set has it.
    pub(crate) fn get(&self, hash: &ContentHash) -> Option<Content> {
        let found = self.0.binary_search_by_key(hash, |(known, _)| *known).ok()?;
        Content::new(*hash, self.0[found].1)
    }
}

impl FileSets {
    /// The contents of a file set of this user, or `None` if it is not stored.
    pub(crate) async fn contents(
        &self,
        store: &FileStore,
        user: &UserName,
        set: &ManifestHash,
    ) -> Result<Option<Arc<SetContents>>, archive::Error> {
        // Held meanwhile: all nodes of a task begin together, and one of them reads the manifest.
        let mut sets = self.0.lock().await;
        let known = sets.iter().position(|known| known.user == *user && known.set == *set);
        let known = match known.and_then(|index| sets.remove(index)) {
            Some(known) => known,
            None => {
                let Some(manifest) = store.manifest(user.as_str(), set).await? else {
                    return Ok(None);
                };
                Known {
                    user: user.clone(),
                    set: *set,
                    contents: Arc::new(SetContents(manifest.contents().into_iter().collect())),
                }
            }
        };
        let contents = Arc::clone(&known.contents);
        sets.push_front(known);
        let all = |sets: &VecDeque<Known>| sets.iter().map(|known| known.contents.0.len()).sum::<usize>();
        while sets.len() > 1 && (sets.len() > MAX_SETS || all(&sets) > MAX_CONTENTS) {
            sets.pop_back();
        }
        Ok(Some(contents))
    }
}

#[cfg(test)]
mod tests {
    use archive::{FileStore, Location};
    use bytes::Bytes;
    use files::{Content, Entry, EntryKind, EntryPath, Limits, Manifest, Mode};
    use task::UserName;

    use super::{FileSets, MAX_SETS};

    const LIMITS: Limits = Limits {
        max_entries: 10,
        max_total_bytes: 100,
        max_manifest_bytes: 1000,
    };

    #[tokio::test]
    async fn a_file_set_has_its_own_contents_for_its_own_user() {
        let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
        let (alice, bob) = (UserName::parse("alice").unwrap(), UserName::parse("bob").unwrap());
        let sets = FileSets::default();
        let content = |number: usize| Bytes::from(format!("content {number}"));
        let mut all = Vec::new();
        for number in 0..MAX_SETS + 5 {
            let contents = vec![Content::of(&content(number)).unwrap()];
            let (path, mode) = (EntryPath::new("file").unwrap(), Mode::new(0o644));
            let kind = EntryKind::File {
                mtime: None,
                mode,
                contents,
            };
            let manifest = Manifest::new(vec![Entry { path, kind }]).unwrap();
            store.put_contents("alice", vec![content(number)]).await.unwrap();
            store.put_manifest("alice", &manifest).await.unwrap();
            all.push(manifest.hash());
        }
        for (number, set) in all.iter().enumerate().chain(all.iter().enumerate()) {
            let contents = sets.contents(&store, &alice, set).await.unwrap().unwrap();
            let own = Content::of(&content(number)).unwrap();
            assert_eq!(contents.get(own.hash()), Some(own));
            let other = Content::of(&content(number + 1)).unwrap();
            assert_eq!(contents.get(other.hash()), None);
            assert!(sets.contents(&store, &bob, set).await.unwrap().is_none());
        }
        assert_eq!(sets.0.lock().await.len(), MAX_SETS);
    }
}
