//! Uploads to a server that keeps contents in memory, loses some, or goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use files::{ContentHash, Limits, Manifest, Pack};
use serde_json::json;
use tempfile::TempDir;

use super::{HashCache, Known, Uploader, Verbosity, cache, limits};
use crate::client::{StubRequest, start_stub};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::task_file::{LocalPart, LocalSource};

const LIMITS: Limits = Limits {
    max_entries: 1000,
    max_total_bytes: 1 << 30,
    max_manifest_bytes: 1 << 20,
};

/// What a server has, and how it fails.
#[derive(Debug, Default)]
struct Store {
    contents: BTreeSet<String>,
    manifests: BTreeMap<String, Vec<u8>>,
    /// Requests without the health check, as method and path.
    requests: Vec<String>,
    /// The numbers of the packs, from 0, that are acknowledged and not stored.
    lost_packs: Vec<usize>,
    /// The numbers of the packs after which the connection is closed without a response.
    cut_packs: Vec<usize>,
    loses_everything: bool,
    is_full: bool,
    /// No limit if 0.
    max_packed_bytes: u64,
    /// The first pack that is answered with 503, as all after it.
    refuses_from: Option<usize>,
    packs: usize,
}

impl Store {
    /// The status and the body of a response; `None` closes the connection.
    fn respond(&mut self, method: &str, path: &str, body: Vec<u8>) -> Option<(&'static str, String)> {
        let id = path.rsplit('/').next().unwrap().to_owned();
        match path {
            "/healthz" => {}
            "/files" | "/files/contents" => self.requests.push(format!("{method} {path}")),
            _ => self.requests.push(format!("{method} /files/ID")),
        }
        match (method, path) {
            ("GET", "/healthz") => Some(("200 OK", json!({"service": "k8s-cli-api"}).to_string())),
            ("GET", "/files") => {
                let mut limits = json!({"max_entries": 1000, "max_bytes": 1 << 30, "max_manifest_bytes": 1 << 20});
                if self.max_packed_bytes > 0 {
                    limits["max_packed_bytes"] = json!(self.max_packed_bytes);
                }
                Some(("200 OK", json!({"limits": limits}).to_string()))
            }
            ("GET", _) if self.manifests.contains_key(&id) => Some(("200 OK", json!({"files": id}).to_string())),
            ("GET", _) => Some(("404 Not Found", json!({"detail": "File set not found"}).to_string())),
            ("PUT", _) => {
                let manifest = Manifest::parse(&body, &LIMITS).unwrap();
                assert_eq!(manifest.hash().to_string(), id);
                let needed = manifest.contents().into_keys().map(|hash| hash.to_string());
                let missing: Vec<String> = needed.filter(|hash| !self.contents.contains(hash)).collect();
                if missing.is_empty() {
                    self.manifests.insert(id.clone(), body);
                }
                Some(("200 OK", json!({"files": id, "missing": missing}).to_string()))
            }
            _ if self.is_full => Some((
                "507 Insufficient Storage",
                json!({"detail": "there is no room; leave out large files"}).to_string(),
            )),
            _ if self.refuses_from.is_some_and(|first| self.packs >= first) => {
                Some(("503 Service Unavailable", json!({"detail": "busy"}).to_string()))
            }
            _ => {
                let number = self.packs;
                self.packs += 1;
                if !self.loses_everything && !self.lost_packs.contains(&number) {
                    let contents = Pack::parse(Bytes::from(body)).unwrap();
                    self.contents
                        .extend(contents.map(|content| ContentHash::of(&content).to_string()));
                }
                let is_cut = self.cut_packs.contains(&number);
                (!is_cut).then(|| ("200 OK", json!({"stored": 1}).to_string()))
            }
        }
    }
}

async fn serve(store: Arc<Mutex<Store>>) -> Context {
    start_stub(move |request| {
        let StubRequest { method, path, body, .. } = request;
        let response = store.lock().unwrap().respond(&method, &path, body);
        response.map(|(status, body)| (status, body.into_bytes()))
    })
    .await
}

/// A folder here, a cache, and a server.
struct Setup {
    folder: TempDir,
    cache: TempDir,
    store: Arc<Mutex<Store>>,
    context: Context,
}

impl Setup {
    /// A folder with three files of 3 MiB, and a small one: two packs.
    async fn new(store: Store) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name), name.repeat(3 << 20)).unwrap();
        }
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/train.py"), "print(1)").unwrap();
        let store = Arc::new(Mutex::new(store));
        let context = serve(Arc::clone(&store)).await;
        Self {
            folder,
            cache: tempfile::tempdir().unwrap(),
            store,
            context,
        }
    }

    async fn upload_as(&self, known: Known) -> Result<String> {
        let uploader = Uploader {
            context: &self.context,
            limits: limits(&self.context).await?,
            cache: Arc::new(HashCache::open(self.cache.path())),
            verbosity: Verbosity::Quiet,
            known,
            patience: Duration::from_millis(500),
        };
        let path = self.folder.path().canonicalize().unwrap();
        let part = LocalPart {
            key: vec!["workdir".to_owned()],
            written: "code".to_owned(),
            target: ".".to_owned(),
            source: LocalSource {
                path,
                file_name: None,
                everything: false,
            },
        };
        uploader.upload(&part).await.map(|uploaded| uploaded.id)
    }

    async fn upload(&self) -> Result<String> {
        self.upload_as(Known::Ask).await
    }

    /// The requests since the last call, without the health check.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.store.lock().unwrap().requests)
    }

    fn is_stored(&self, id: &str) -> bool {
        self.store.lock().unwrap().manifests.contains_key(id)
    }
}

#[tokio::test]
async fn a_folder_is_sent_in_packs_and_an_unchanged_one_not_again() {
    let setup = Setup::new(Store::default()).await;
    let id = setup.upload().await.unwrap();
    assert!(setup.is_stored(&id));
    let requests = setup.requests();
    assert_eq!(requests[..3], ["GET /files", "GET /files/ID", "PUT /files/ID"]);
    assert_eq!(
        requests[3..],
        ["POST /files/contents", "POST /files/contents", "PUT /files/ID"]
    );
    assert_eq!(setup.upload().await.unwrap(), id);
    assert_eq!(setup.requests(), ["GET /files", "GET /files/ID"]);
    // Of a changed folder, only what changed is sent.
    fs::write(setup.folder.path().join("src/train.py"), "print(2)").unwrap();
    assert_ne!(setup.upload().await.unwrap(), id);
    let sent = setup.requests();
    assert_eq!(sent.iter().filter(|request| request.starts_with("POST")).count(), 1);
    assert_eq!(setup.store.lock().unwrap().contents.len(), 5);
}

#[tokio::test]
async fn a_server_that_has_just_deleted_the_files_is_not_asked_for_them() {
    let setup = Setup::new(Store::default()).await;
    setup.upload_as(Known::No).await.unwrap();
    assert_eq!(setup.requests()[..2], ["GET /files", "PUT /files/ID"]);
}

#[tokio::test]
async fn a_pack_that_is_lost_is_sent_again() {
    let setup = Setup::new(Store {
        lost_packs: vec![0],
        cut_packs: vec![1],
        ..Store::default()
    })
    .await;
    let id = setup.upload().await.unwrap();
    assert!(setup.is_stored(&id));
    let puts = setup
        .requests()
        .iter()
        .filter(|request| request.starts_with("PUT"))
        .count();
    assert_eq!(puts, 3);
}

#[tokio::test]
async fn a_server_that_keeps_nothing_is_an_error_and_no_endless_upload() {
    let setup = Setup::new(Store {
        loses_everything: true,
        ..Store::default()
    })
    .await;
    let message = setup.upload().await.unwrap_err().to_string();
    let (_, rest) = message.split_once("` still lacks").unwrap();
    assert_eq!(
        rest,
        " files of `code` after 4 uploads: 4 contents (9 MiB in all); see the server's log"
    );
}

#[tokio::test]
async fn a_full_store_is_said_in_the_words_of_the_server_with_what_is_largest() {
    let setup = Setup::new(Store {
        is_full: true,
        ..Store::default()
    })
    .await;
    let error = setup.upload().await.unwrap_err();
    assert!(
        matches!(&error, Error::Server(message) if message.status == Some(507)),
        "{error:?}"
    );
    let message = error.to_string();
    let expected = "there is no room; leave out large files; the largest in `code` are `";
    assert!(message.starts_with(expected), "{message}");
    let posts = setup
        .requests()
        .iter()
        .filter(|request| request.starts_with("POST"))
        .count();
    assert!(posts <= 2, "not sent again");
}

#[tokio::test]
async fn an_upload_that_was_cut_off_sends_only_the_rest() {
    let setup = Setup::new(Store::default()).await;
    let first = ContentHash::of(&vec![b'a'; 3 << 20]).to_string();
    setup.store.lock().unwrap().contents.insert(first);
    setup.upload().await.unwrap();
    let posts = setup
        .requests()
        .iter()
        .filter(|request| request.starts_with("POST"))
        .count();
    assert_eq!(posts, 1, "6 MiB are left");
}

#[tokio::test]
async fn files_that_the_server_cannot_bring_to_nodes_are_refused_before_anything_is_sent() {
    let setup = Setup::new(Store {
        max_packed_bytes: 1 << 20,
        ..Store::default()
    })
    .await;
    // 9 MiB that compress well.
    setup.upload().await.unwrap();
    let bytes: Vec<u8> = noise().take(1_500_000).collect();
    fs::write(setup.folder.path().join("noise"), bytes).unwrap();
    let before = setup.requests().len();
    let error = setup.upload().await.unwrap_err().to_string();
    assert!(
        error.starts_with("the files are more than 1 MiB when compressed, the limit of this server; the largest are"),
        "{error}"
    );
    assert!(error.contains("`noise`"), "{error}");
    assert_eq!(
        (setup.requests(), before > 2),
        (vec!["GET /files".to_owned(), "GET /files/ID".to_owned()], true)
    );
}

/// Bytes that do not compress.
fn noise() -> impl Iterator<Item = u8> {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(move || random.u8(..))
}

#[tokio::test]
async fn an_upload_ends_if_only_the_packs_fail_and_nothing_arrives() {
    let setup = Setup::new(Store {
        refuses_from: Some(1),
        ..Store::default()
    })
    .await;
    let upload = tokio::time::timeout(Duration::from_secs(30), setup.upload());
    let error = upload.await.expect("it ends").unwrap_err();
    assert!(
        matches!(&error, Error::Server(message) if message.status == Some(503)),
        "{error:?}"
    );
    assert_eq!(setup.store.lock().unwrap().packs, 1, "what can be sent is");
}

#[tokio::test]
async fn a_wrong_line_of_the_cache_is_corrected() {
    let setup = Setup::new(Store::default()).await;
    let file = setup.folder.path().join("src/train.py");
    let _ = setup.upload().await.unwrap();
    // The file changed without a new time, and the cache has what it was.
    let cached = fs::read_dir(setup.cache.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let stamp = |path: &std::path::Path| {
        use std::os::unix::fs::MetadataExt;
        let of = fs::metadata(path).unwrap();
        let ns = |seconds: i64, rest: i64| seconds * 1_000_000_000 + rest;
        json!({"size": of.size(), "modified_ns": ns(of.mtime(), of.mtime_nsec()),
            "changed_ns": ns(of.ctime(), of.ctime_nsec()), "inode": of.ino()})
    };
    let wrong = ContentHash::of(b"print(0)").to_string();
    let line = json!({"file": ["src/train.py", stamp(&file), [[wrong, 8]]]});
    let text = fs::read_to_string(&cached).unwrap();
    fs::write(&cached, format!("{text}{line}\n")).unwrap();
    let id = setup.upload().await.unwrap();
    let store = setup.store.lock().unwrap();
    let manifest = String::from_utf8(store.manifests[&id].clone()).unwrap();
    assert!(
        manifest.contains(&ContentHash::of(b"print(1)").to_string()),
        "{manifest}"
    );
}

#[test]
fn nothing_is_cached_without_a_folder_for_it() {
    let folder = tempfile::tempdir().unwrap();
    assert!(cache(None).is_news(folder.path(), "a") && cache(None).is_news(folder.path(), "a"));
    let directory = folder.path().join("cache/k8s-cli");
    let marked = cache(Some(&directory));
    assert!(marked.is_news(folder.path(), "a") && !marked.is_news(folder.path(), "a"));
    assert!(
        fs::read_to_string(directory.join("CACHEDIR.TAG"))
            .unwrap()
            .contains("a cache of k8s-cli")
    );
}
