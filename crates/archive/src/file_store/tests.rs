//! What users store, and what is deleted.

use bytes::Bytes;
use files::{Content, Entry, EntryKind, EntryPath, Manifest, ManifestHash, Mode};
use jiff::{SignedDuration, Timestamp};

use super::paths::UserPrefix;
use super::{FileStore, FilesInUse};
use crate::error::Error;
use crate::key::RecordKey;
use crate::location::Location;

const LIMITS: files::Limits = files::Limits {
    max_entries: 100,
    max_total_bytes: 1 << 20,
    max_manifest_bytes: 1 << 16,
};

fn manifest(contents: &[&[u8]]) -> Manifest {
    let files = contents.iter().enumerate().map(|(number, bytes)| Entry {
        path: EntryPath::new(format!("{number:04}")).unwrap(),
        kind: EntryKind::File {
            mtime: None,
            mode: Mode::new(0o644),
            contents: vec![Content::of(bytes).unwrap()],
        },
    });
    Manifest::new(files.collect()).unwrap()
}

/// Prunes the store of a server whose tasks use these file sets, and that has no records.
async fn prune(store: &FileStore, now: Timestamp, in_use: &[(&str, ManifestHash)]) -> Result<usize, Error> {
    let sets = in_use.iter().map(|(user, set)| ((*user).to_owned(), *set));
    let in_use = FilesInUse {
        sets: sets.collect(),
        ..FilesInUse::default()
    };
    store.prune(now, &in_use).await
}

#[tokio::test]
async fn a_file_set_is_there_once_all_of_its_contents_are() {
    let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
    let manifest = manifest(&[b"one", b"two", b"one"]);
    let missing = store.put_manifest("alice", &manifest).await.unwrap();
    assert_eq!(missing.len(), 2);
    assert!(store.manifest("alice", &manifest.hash()).await.unwrap().is_none());
    store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
    assert_eq!(store.put_manifest("alice", &manifest).await.unwrap().len(), 1);
    store.put_contents("alice", vec![Bytes::from("two")]).await.unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    assert_eq!(
        store.manifest("alice", &manifest.hash()).await.unwrap(),
        Some(manifest.clone())
    );
    let contents = [b"one", b"two"].map(|bytes| Content::of(bytes).unwrap());
    assert_eq!(store.contents("alice", contents).await.unwrap().unwrap().len(), 2);
}

#[tokio::test]
async fn the_files_of_another_user_are_not_there() {
    let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
    let manifest = manifest(&[b"one"]);
    store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    assert_eq!(store.manifest("bob", &manifest.hash()).await.unwrap(), None);
    assert_eq!(store.put_manifest("bob", &manifest).await.unwrap().len(), 1);
    let content = Content::of(b"one").unwrap();
    assert!(store.contents("bob", [content]).await.unwrap().is_none());
}

#[tokio::test]
async fn a_user_cannot_store_more_than_the_limit() {
    // A block for the manifest, and one for a content.
    let store = FileStore::open(&Location::memory(), LIMITS, 2 * 4096).unwrap();
    let two = manifest(&[b"three", b"x"]);
    let error = store.put_manifest("alice", &two).await.unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { more: 12_288, .. }), "{error}");
    let one = manifest(&[b"three"]);
    assert_eq!(store.put_manifest("alice", &one).await.unwrap().len(), 1);
    store.put_contents("alice", vec![Bytes::from("three")]).await.unwrap();
    assert!(store.put_manifest("alice", &one).await.unwrap().is_empty());
    // Again is not more. Another manifest of the same contents is.
    assert!(store.put_manifest("alice", &one).await.unwrap().is_empty());
    let other = manifest(&[b"three", b"three"]);
    let error = store.put_manifest("alice", &other).await.unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { more: 4096, .. }), "{error}");
}

#[tokio::test]
async fn a_file_set_of_many_contents_is_complete_as_one_of_few() {
    let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
    for count in [3, super::MAX_HEADS as u8 + 1] {
        let contents: Vec<Vec<u8>> = (0..count).map(|byte| vec![byte, count]).collect();
        let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let set = manifest(&slices);
        for content in &contents {
            assert!(!store.is_complete("alice", &set).await.unwrap());
            let content = vec![Bytes::from(content.clone())];
            store.put_contents("alice", content).await.unwrap();
        }
        assert!(store.is_complete("alice", &set).await.unwrap());
    }
}

#[tokio::test]
async fn uploads_of_the_same_files_at_the_same_time_count_once() {
    let contents: Vec<Vec<u8>> = (0..16_u8).map(|byte| vec![byte; 4096]).collect();
    let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let manifest = manifest(&slices);
    // Room for two of such folders.
    let store = &FileStore::open(&Location::memory(), LIMITS, 2 * 17 * 4096).unwrap();
    let (manifest, packs) = (&manifest, &contents);
    let upload = async move || {
        let missing = store.put_manifest("alice", manifest).await?;
        for pack in packs.chunks(4) {
            tokio::task::yield_now().await;
            let wanted = pack
                .iter()
                .filter(|bytes| missing.contains(&files::ContentHash::of(bytes)));
            let wanted = wanted.map(|bytes| Bytes::from(bytes.clone())).collect();
            store.put_contents("alice", wanted).await?;
        }
        store.put_manifest("alice", manifest).await
    };
    let uploads = (0..10).map(|_| upload());
    for uploaded in futures::future::join_all(uploads).await {
        assert_eq!(uploaded.unwrap(), []);
    }
    // They are not free either.
    let others = (0..18_u8).map(|byte| Bytes::from(vec![byte + 100; 4096])).collect();
    let error = store.put_contents("alice", others).await.unwrap_err();
    assert!(matches!(error, Error::TooManyFiles { stored: 69_632, .. }), "{error}");
}

#[tokio::test]
async fn all_users_together_cannot_store_more_than_the_limit() {
    let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
    let store = store.with_max_bytes(4096);
    store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
    let put = |user| store.put_contents(user, vec![Bytes::from("two")]);
    assert!(matches!(put("bob").await, Err(Error::FilesFull { limit: 4096 })));
    let in_two_days = Timestamp::now() + SignedDuration::from_hours(48);
    assert_eq!(prune(&store, in_two_days, &[]).await.unwrap(), 1);
    assert_eq!(put("bob").await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_damaged_is_missing_and_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(&Location::folder(folder.path().to_owned()), LIMITS, 1 << 20).unwrap();
    let (manifest, content) = (manifest(&[b"one"]), Content::of(b"one").unwrap());
    store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    let alice = UserPrefix::of("alice");
    let path = folder.path().join(alice.content(content.hash()).as_ref());
    std::fs::write(&path, "two").unwrap();
    assert!(store.contents("alice", [content]).await.unwrap().is_none());
    assert_eq!(store.put_manifest("alice", &manifest).await.unwrap().len(), 1);
    let path = folder.path().join(alice.set(&manifest.hash()).as_ref());
    std::fs::write(&path, "{}").unwrap();
    assert!(store.manifest("alice", &manifest.hash()).await.unwrap().is_none());
    store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    assert!(store.manifest("alice", &manifest.hash()).await.unwrap().is_some());
}

#[tokio::test]
async fn what_others_have_in_the_same_folder_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = |path: &str| folder.path().join("files").join(path);
    let theirs = [
        "project/contents/report.pdf",
        "project/contents/deep/thesis.tex",
        "project/sets/set.json",
    ];
    for file in theirs {
        std::fs::create_dir_all(path(file).parent().unwrap()).unwrap();
        std::fs::write(path(file), "precious").unwrap();
    }
    let store = FileStore::open(&Location::folder(folder.path().to_owned()), LIMITS, 1 << 20).unwrap();
    let in_two_days = Timestamp::now() + SignedDuration::from_hours(48);
    assert_eq!(prune(&store, in_two_days, &[]).await.unwrap(), 0);
    for file in theirs {
        assert_eq!(std::fs::read_to_string(path(file)).unwrap(), "precious", "{file}");
    }
}

#[tokio::test]
async fn nobody_else_may_read_a_temporary_store() {
    use std::os::unix::fs::PermissionsExt;
    let store = FileStore::temporary(LIMITS, 1 << 20).unwrap();
    let folder = store._temporary.as_ref().unwrap().path();
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn what_nobody_has_used_for_a_day_is_deleted() {
    let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
    let manifest = manifest(&[b"one"]);
    let contents = ["one", "two"].map(Bytes::from).to_vec();
    store.put_contents("alice", contents).await.unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    let after = |hours| Timestamp::now() + SignedDuration::from_hours(hours);
    let in_use = [("alice", manifest.hash())];
    let unused = [("bob", manifest.hash())];
    assert_eq!(prune(&store, after(23), &unused).await.unwrap(), 0);
    assert_eq!(prune(&store, after(25), &in_use).await.unwrap(), 1);
    assert!(store.is_complete("alice", &manifest).await.unwrap());
    assert_eq!(prune(&store, after(25), &unused).await.unwrap(), 1);
    assert!(!store.is_complete("alice", &manifest).await.unwrap());
    assert!(store.manifest("alice", &manifest.hash()).await.unwrap().is_none());
    assert_eq!(store.put_manifest("alice", &manifest).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_set_of_a_task_is_noted_as_used_so_that_other_servers_keep_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(&Location::folder(folder.path().to_owned()), LIMITS, 1 << 20).unwrap();
    let manifest = manifest(&[b"one"]);
    store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    let file = folder
        .path()
        .join(UserPrefix::of("alice").set(&manifest.hash()).as_ref());
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(old).unwrap();
    let in_use = [("alice", manifest.hash())];
    assert_eq!(prune(&store, Timestamp::now(), &in_use).await.unwrap(), 0);
    let modified = file.metadata().unwrap().modified().unwrap();
    assert!(modified > old + std::time::Duration::from_secs(3600));
    assert_eq!(prune(&store, Timestamp::now(), &[]).await.unwrap(), 0);
    assert!(store.manifest("alice", &manifest.hash()).await.unwrap().is_some());
}

#[tokio::test]
async fn the_contents_of_a_file_set_in_use_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(&Location::folder(folder.path().to_owned()), LIMITS, 1 << 20).unwrap();
    let (manifest, content) = (manifest(&[b"one"]), Content::of(b"one").unwrap());
    store
        .put_contents("alice", ["one", "two"].map(Bytes::from).to_vec())
        .await
        .unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    // All contents are old, and the file set is new.
    let path = |bytes: &[u8]| {
        let content = Content::of(bytes).unwrap();
        folder
            .path()
            .join(UserPrefix::of("alice").content(content.hash()).as_ref())
    };
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
    for bytes in [&b"one"[..], b"two"] {
        let file = std::fs::File::options().write(true).open(path(bytes)).unwrap();
        file.set_modified(old).unwrap();
    }
    assert_eq!(prune(&store, Timestamp::now(), &[]).await.unwrap(), 1);
    assert!(store.contents("alice", [content]).await.unwrap().is_some());
    // The next use makes it new.
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    let modified = path(b"one").metadata().unwrap().modified().unwrap();
    assert!(modified > old + std::time::Duration::from_secs(3600));
}

/// Makes an object in the folder of a store as old as one that nobody has used for two days.
fn make_old(folder: &std::path::Path, path: &object_store::path::Path) {
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
    let file = std::fs::File::options().write(true).open(folder.join(path.as_ref()));
    file.unwrap().set_modified(old).unwrap();
}

/// What somebody does between the two halves of deleting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Touch,
    Store,
}

#[tokio::test]
async fn what_somebody_uses_between_the_list_and_the_deletion_stays() {
    for meanwhile in [Meanwhile::Nothing, Meanwhile::Touch, Meanwhile::Store] {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(&Location::folder(folder.path().to_owned()), LIMITS, 1 << 20).unwrap();
        let (set, alice) = (manifest(&[b"one", b"two"]), UserPrefix::of("alice"));
        let contents = ["one", "two"].map(Bytes::from).to_vec();
        store.put_contents("alice", contents).await.unwrap();
        assert!(store.put_manifest("alice", &set).await.unwrap().is_empty());
        make_old(folder.path(), &alice.set(&set.hash()));
        for bytes in ["one", "two"] {
            make_old(folder.path(), &alice.content(&files::ContentHash::of(bytes.as_bytes())));
        }
        let limit = Timestamp::now() - SignedDuration::from_hours(24);
        let old = store.list_old(limit, &std::collections::HashSet::new()).await.unwrap();
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Touch => store.touch("alice", &set.hash()).await.unwrap(),
            Meanwhile::Store => {
                // By a server that does not write contents again.
                let other = manifest(&[b"two", b"one"]);
                let path = folder.path().join(alice.set(&other.hash()).as_ref());
                std::fs::write(path, other.encode()).unwrap();
            }
        }
        let deleted = store.delete_listed(old, limit).await.unwrap();
        let expected = if meanwhile == Meanwhile::Nothing { 2 } else { 0 };
        assert_eq!(deleted, expected);
        assert_eq!(
            store.is_complete("alice", &set).await.unwrap(),
            meanwhile != Meanwhile::Nothing
        );
        let is_there = store.manifest("alice", &set.hash()).await.unwrap().is_some();
        assert_eq!(is_there, meanwhile == Meanwhile::Touch);
    }
}

#[tokio::test]
async fn the_contents_of_a_file_set_that_is_used_again_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(&Location::folder(folder.path().to_owned()), LIMITS, 1 << 20).unwrap();
    let (set, alice) = (manifest(&[b"one"]), UserPrefix::of("alice"));
    store.put_contents("alice", vec![Bytes::from("one")]).await.unwrap();
    assert!(store.put_manifest("alice", &set).await.unwrap().is_empty());
    let content = alice.content(&files::ContentHash::of(b"one"));
    let age = |path: &object_store::path::Path| {
        let modified = folder.path().join(path.as_ref()).metadata().unwrap().modified();
        modified.unwrap().elapsed().unwrap().as_secs() / 3600
    };
    // A new set was used just now, with its contents.
    make_old(folder.path(), &content);
    store.touch("alice", &set.hash()).await.unwrap();
    assert_eq!(age(&content), 48);
    make_old(folder.path(), &alice.set(&set.hash()));
    store.touch("alice", &set.hash()).await.unwrap();
    assert_eq!((age(&content), age(&alice.set(&set.hash()))), (0, 0));
}

#[tokio::test]
async fn the_outputs_of_a_new_attempt_replace_those_of_the_one_before() {
    let store = FileStore::open(&Location::memory(), LIMITS, 1 << 20).unwrap();
    let task = RecordKey::new(Timestamp::UNIX_EPOCH, "abcd1234", "s");
    let [first, second] = [manifest(&[b"one"]).hash(), manifest(&[b"two"]).hash()];
    store.put_outputs("alice", &task, &first).await.unwrap();
    store.put_outputs("alice", &task, &second).await.unwrap();
    assert_eq!(store.outputs("alice", &task).await.unwrap(), Some(second));
}
