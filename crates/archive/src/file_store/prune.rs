//! Deletes the files that nobody uses.

use std::collections::{HashMap, HashSet};

use files::{ContentHash, Manifest, ManifestHash};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;

use super::paths::{self, FILES, Stored, UserPrefix};
use super::quota::counted;
use super::refresh::TOUCH_AFTER;
use super::{CONCURRENT_CALLS, FileStore, STORED};
use crate::error::Error;
use crate::key::RecordKey;
use crate::store::written_at;

/// How long what nobody uses is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How many objects are looked at once more, and then deleted, together. What is written again between the two is lost, so
/// that they are few.
const DELETED_TOGETHER: usize = 64;

/// The objects that are older than the limit.
#[derive(Default)]
pub(super) struct Old {
    contents: HashMap<UserPrefix, HashSet<ContentHash>>,
    sets: Vec<Path>,
    /// The sets that are in use, and whose contents are not yet taken out.
    used_sets: Vec<(UserPrefix, ManifestHash)>,
    /// The sets whose contents are taken out.
    kept_sets: HashSet<(UserPrefix, ManifestHash)>,
}

/// What tasks use.
#[derive(Debug, Default)]
pub struct FilesInUse {
    /// The file sets of tasks that have not ended, each with its user.
    pub sets: HashSet<(String, ManifestHash)>,
    /// The tasks that are there, whose outputs are kept.
    pub tasks: HashSet<RecordKey>,
}

impl FileStore {
    /// Deletes file sets that nobody has used for a day, and contents that no other file set has and that were not
    /// written for a day. Those `in_use` are noted as used first. The outputs of a task are kept as long as the task or its
    /// record in the archive. Returns how many contents were deleted.
    pub async fn prune(&self, now: Timestamp, in_use: &FilesInUse) -> Result<usize, Error> {
        let limit = now - KEPT;
        let is_ours = |path: &Path| paths::parse(path).is_some();
        self.store.delete_leftovers(FILES, is_ours).await;
        let mut used: HashSet<(UserPrefix, ManifestHash)> = HashSet::new();
        // Other servers with the same store know other tasks.
        for (user, hash) in &in_use.sets {
            let user = UserPrefix::of(user);
            self.write_again(&user.set(hash), now - TOUCH_AFTER).await?;
            used.insert((user, *hash));
        }
        let old_outputs = self.find_outputs(now, &in_use.tasks, &mut used).await?;
        self.delete_old(&old_outputs, limit).await?;
        let old = self.list_old(limit, &used).await?;
        let deleted = self.delete_listed(old, limit).await?;
        self.count_all().await?;
        Ok(deleted)
    }

    /// Deletes what is old and not in use. A set that somebody has begun to use, or has stored, since the list keeps its
    /// contents: once the old sets are deleted, those that are there are looked at again.
    pub(super) async fn delete_listed(&self, mut old: Old, limit: Timestamp) -> Result<usize, Error> {
        self.keep_used(&mut old).await?;
        self.delete_old(&old.sets, limit).await?;
        self.list_used_since(&mut old).await?;
        self.keep_used(&mut old).await?;
        let contents = old.contents.iter();
        let contents: Vec<Path> = contents
            .flat_map(|(user, hashes)| hashes.iter().map(|hash| user.content(hash)))
            .collect();
        self.delete_old(&contents, limit).await
    }

    /// Lists the sets that are there once more, of those users whose contents would be deleted.
    async fn list_used_since(&self, old: &mut Old) -> Result<(), Error> {
        let Old {
            contents,
            used_sets,
            kept_sets,
            ..
        } = old;
        let users = contents.iter().filter(|(_, hashes)| !hashes.is_empty());
        for (user, _) in users {
            self.store
                .visit(&user.sets(), |object| {
                    if let Some((user, Stored::Set(hash))) = paths::parse(&object.location) {
                        used_sets.push((user, hash));
                    }
                })
                .await?;
        }
        used_sets.retain(|set| !kept_sets.contains(set));
        Ok(())
    }

    /// Adds the file sets with outputs of tasks to those in use, and returns the names of outputs that nobody needs.
    async fn find_outputs(
        &self,
        now: Timestamp,
        tasks: &HashSet<RecordKey>,
        in_use: &mut HashSet<(UserPrefix, ManifestHash)>,
    ) -> Result<Vec<Path>, Error> {
        let mut found = Vec::new();
        self.store
            .visit(&Path::from(FILES), |object| {
                if let Some((user, Stored::Outputs(task))) = paths::parse(&object.location) {
                    found.push((user, task, written_at(object)));
                }
            })
            .await?;
        let mut unused = Vec::new();
        for (user, task, written) in found {
            let path = user.outputs(&task);
            if tasks.contains(&task) {
                self.write_again(&path, now - TOUCH_AFTER).await?;
            } else if written < now - KEPT && !self.has_record(&task).await? {
                unused.push(path);
                continue;
            }
            let content = self.store.get(&path).await?;
            let hash = content.and_then(|content| std::str::from_utf8(&content).ok()?.parse().ok());
            in_use.extend(hash.map(|hash| (user, hash)));
        }
        Ok(unused)
    }

    async fn has_record(&self, task: &RecordKey) -> Result<bool, Error> {
        match &self.archive {
            Some(archive) => archive.has_record(task).await,
            None => Ok(false),
        }
    }

    /// Lists what is old. Contents first: the sets that are listed next name all that were in use then, and what is put into
    /// use later has been written again.
    pub(super) async fn list_old(
        &self,
        limit: Timestamp,
        in_use: &HashSet<(UserPrefix, ManifestHash)>,
    ) -> Result<Old, Error> {
        let mut old = Old::default();
        let all = Path::from(FILES);
        self.store
            .visit(&all, |object| {
                if let Some((user, Stored::Content(hash))) = paths::parse(&object.location)
                    && written_at(object) < limit
                {
                    old.contents.entry(user).or_default().insert(hash);
                }
            })
            .await?;
        self.store
            .visit(&all, |object| {
                if let Some((user, Stored::Set(hash))) = paths::parse(&object.location) {
                    let set = (user, hash);
                    match written_at(object) < limit && !in_use.contains(&set) {
                        true => old.sets.push(object.location.clone()),
                        false => old.used_sets.push(set),
                    }
                }
            })
            .await?;
        Ok(old)
    }

    /// Takes the contents of sets that are in use out of what is to be deleted.
    async fn keep_used(&self, old: &mut Old) -> Result<(), Error> {
        for (user, hash) in std::mem::take(&mut old.used_sets) {
            let Some(contents) = old.contents.get_mut(&user).filter(|contents| !contents.is_empty()) else {
                continue;
            };
            old.kept_sets.insert((user.clone(), hash));
            let Some(text) = self.store.get(&user.set(&hash)).await? else {
                continue;
            };
            let parsed = tokio::task::spawn_blocking(move || Manifest::parse(&text, &STORED)).await;
            match parsed {
                Ok(Ok(manifest)) => {
                    for hash in manifest.contents().keys() {
                        contents.remove(hash);
                    }
                }
                // Perhaps another version of the server can read it.
                Ok(Err(_)) | Err(_) => contents.clear(),
            }
        }
        Ok(())
    }

    /// Deletes those that nobody has written again since they were listed, and returns how many.
    async fn delete_old(&self, paths: &[Path], limit: Timestamp) -> Result<usize, Error> {
        let mut deleted = 0;
        for paths in paths.chunks(DELETED_TOGETHER) {
            let looks: Vec<_> = paths.iter().map(|path| self.if_old(path, limit)).collect();
            let found: Vec<Option<Path>> = stream::iter(looks).buffered(CONCURRENT_CALLS).try_collect().await?;
            let still_old: Vec<Path> = found.into_iter().flatten().collect();
            deleted += still_old.len();
            self.store.delete(&Path::from(FILES), still_old).await?;
        }
        Ok(deleted)
    }

    async fn if_old(&self, path: &Path, limit: Timestamp) -> Result<Option<Path>, Error> {
        let written = self.store.written_at(path).await?;
        Ok(written.filter(|written| *written < limit).map(|_| path.clone()))
    }

    /// Counts what all users have stored.
    async fn count_all(&self) -> Result<(), Error> {
        let before = self.usage().mark_all();
        let mut bytes: u64 = 0;
        self.store
            .visit(&Path::from(FILES), |object| {
                if paths::parse(&object.location).is_some() {
                    bytes = bytes.saturating_add(counted(object.size));
                }
            })
            .await?;
        metrics::gauge!("k8s_cli_files_bytes").set(bytes as f64);
        self.usage().listed_all(bytes, before);
        Ok(())
    }
}
