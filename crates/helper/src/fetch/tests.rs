//! Downloads from a server that breaks off, refuses, and sends wrong contents.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Json, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, serve};
use bytes::Bytes;
use files::{Content, ContentHash, Entry, EntryKind, EntryPath, Manifest, ManifestHash, Mode, pack_head};
use futures::stream;
use serde_json::{Value, json};

use super::{Wanted, fetch_from};
use crate::batches::batches;
use crate::error::Error;
use crate::progress::NodeLog;
use crate::source::Source;

/// How many of the first answers break off.
const BROKEN_ANSWERS: usize = 8;

const TOKEN: &str = "task.secret";

/// How the server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behavior {
    Fine,
    /// The first answers break off or are errors.
    BreaksOff,
    Corrupt,
}

struct Server {
    manifest: Manifest,
    contents: HashMap<ContentHash, Bytes>,
    behavior: Behavior,
    requests: AtomicUsize,
    /// How many contents each request asked for.
    asked: Mutex<Vec<usize>>,
}

async fn send_manifest(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    if headers["authorization"] != format!("Bearer {TOKEN}") {
        return (StatusCode::FORBIDDEN, Json(json!({"detail": "no access"}))).into_response();
    }
    if server.behavior == Behavior::BreaksOff && server.requests.fetch_add(1, Ordering::Relaxed) == 0 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    server.manifest.encode().into_response()
}

async fn send_contents(State(server): State<Arc<Server>>, Json(body): Json<Value>) -> Response {
    let number = server.requests.fetch_add(1, Ordering::Relaxed);
    let mut pack = Vec::new();
    let wanted = body["contents"].as_array().unwrap();
    let is_cut = server.behavior == Behavior::BreaksOff && wanted.len() > 100;
    for hash in &wanted[..wanted.len() / if is_cut { 2 } else { 1 }] {
        let bytes = &server.contents[&hash.as_str().unwrap().parse().unwrap()];
        pack.extend(pack_head(u32::try_from(bytes.len()).unwrap()));
        pack.extend_from_slice(bytes);
    }
    server.asked.lock().unwrap().push(wanted.len());
    match server.behavior {
        Behavior::Fine => pack.into_response(),
        Behavior::Corrupt => {
            pack[4] ^= 1;
            pack.into_response()
        }
        // A large batch ends early, and so does the rest of it, until little is left.
        Behavior::BreaksOff if is_cut => pack.into_response(),
        Behavior::BreaksOff if number % 2 == 0 && number < BROKEN_ANSWERS => StatusCode::BAD_GATEWAY.into_response(),
        Behavior::BreaksOff if number < BROKEN_ANSWERS => {
            // The end that an answer without a length has when the server is killed.
            pack.truncate(pack.len() * 2 / 3);
            let broken: [Result<Vec<u8>, std::io::Error>; 2] =
                [Ok(pack), Err(std::io::ErrorKind::ConnectionReset.into())];
            Body::from_stream(stream::iter(broken)).into_response()
        }
        Behavior::BreaksOff => pack.into_response(),
    }
}

/// A file set with a large file, small ones, and an empty one.
fn example() -> (Manifest, HashMap<ContentHash, Bytes>) {
    let mode = Mode::new(0o640);
    let mut contents = HashMap::new();
    let mut entry = |path: &str, pieces: &[Vec<u8>]| {
        let of_file = pieces.iter().map(|piece| {
            let content = Content::of(piece).unwrap();
            contents.insert(*content.hash(), Bytes::from(piece.clone()));
            content
        });
        let kind = EntryKind::File {
            mtime: None,
            mode,
            contents: of_file.collect(),
        };
        Entry {
            path: EntryPath::new(path).unwrap(),
            kind,
        }
    };
    let mut entries = vec![entry("empty", &[])];
    let pieces: Vec<Vec<u8>> = (0..6).map(|number| vec![number; 3 << 20]).collect();
    entries.push(entry("large", &pieces));
    entries.extend((0..1200).map(|number| entry(&format!("small-{number:04}"), &[format!("{number}").into_bytes()])));
    (Manifest::new(entries).unwrap(), contents)
}

async fn start(behavior: Behavior) -> (Arc<Server>, String) {
    let (manifest, contents) = example();
    let server = Arc::new(Server {
        manifest,
        contents,
        behavior,
        requests: AtomicUsize::new(0),
        asked: Mutex::default(),
    });
    let set = server.manifest.hash();
    let routes = Router::new()
        .route(&format!("/files/{set}/manifest"), get(send_manifest))
        .route(&format!("/files/{set}/contents"), post(send_contents))
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { serve(listener, routes).await });
    (server, url)
}

fn wanted(set: ManifestHash, into: &Path) -> Wanted {
    Wanted {
        set,
        into: into.to_owned(),
        file: None,
        patience: Duration::from_secs(60),
    }
}

async fn fetch(source: Source, wanted: &Wanted) -> Result<(), Error> {
    fetch_from(source, wanted, Arc::new(NodeLog::new())).await.map(drop)
}

fn assert_is_there(server: &Server, folder: &Path) {
    for entry in server.manifest.entries() {
        let contents = entry.kind.contents().iter();
        let expected: Vec<u8> = contents
            .flat_map(|content| server.contents[content.hash()].to_vec())
            .collect();
        assert!(
            fs::read(folder.join(entry.path.as_path())).unwrap() == expected,
            "{}",
            entry.path
        );
    }
}

#[tokio::test]
async fn a_file_set_arrives_although_the_server_breaks_off_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = start(Behavior::BreaksOff).await;
    let args = wanted(server.manifest.hash(), &folder.path().join("new/target"));
    fetch(Source::at(&url, TOKEN), &args).await.unwrap();
    assert_is_there(&server, &args.into);
    // What has arrived of a broken answer is not asked for again.
    let contents = server.manifest.entries().iter().flat_map(|entry| entry.kind.contents());
    let whole: Vec<usize> = batches(contents.copied()).iter().map(Vec::len).collect();
    let asked = server.asked.lock().unwrap();
    assert!(asked.iter().any(|count| !whole.contains(count)), "{asked:?}");
}

#[tokio::test]
async fn a_folder_with_other_files_keeps_them_and_a_wrong_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = start(Behavior::Fine).await;
    fs::write(folder.path().join("other"), "stays").unwrap();
    fs::write(folder.path().join("small-0001"), "wrong").unwrap();
    fs::write(folder.path().join("small-0002"), "2").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(".", &link).unwrap();
    fetch(Source::at(&url, TOKEN), &wanted(server.manifest.hash(), &link))
        .await
        .unwrap();
    assert_is_there(&server, folder.path());
    assert_eq!(fs::read_to_string(folder.path().join("other")).unwrap(), "stays");
}

#[tokio::test]
async fn what_is_there_is_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = start(Behavior::Fine).await;
    let wanted = wanted(server.manifest.hash(), folder.path());
    fetch(Source::at(&url, TOKEN), &wanted).await.unwrap();
    server.asked.lock().unwrap().clear();
    fetch(Source::at(&url, TOKEN), &wanted).await.unwrap();
    assert_eq!(*server.asked.lock().unwrap(), [0; 0]);
    fs::remove_file(folder.path().join("small-0003")).unwrap();
    fs::write(folder.path().join("small-0007"), "wrong").unwrap();
    // Half of it has arrived.
    let large = fs::File::options()
        .write(true)
        .open(folder.path().join("large"))
        .unwrap();
    large.set_len(9 << 20).unwrap();
    fetch(Source::at(&url, TOKEN), &wanted).await.unwrap();
    assert_is_there(&server, folder.path());
    // Three pieces of the large file, one to a request, and the last one with the two small files.
    assert_eq!(server.asked.lock().unwrap().iter().sum::<usize>(), 5);
}

#[tokio::test]
async fn a_single_file_is_all_that_is_written_and_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = start(Behavior::Fine).await;
    let mut args = wanted(server.manifest.hash(), folder.path());
    args.file = Some("small-0007".to_owned());
    fetch(Source::at(&url, TOKEN), &args).await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(folder.path().join("small-0007")).unwrap(), "7");
    assert_eq!(*server.asked.lock().unwrap(), [1]);
    args.file = Some("nowhere".to_owned());
    let error = fetch(Source::at(&url, TOKEN), &args).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchFile { .. }), "{error}");
}

#[tokio::test]
async fn a_refusal_is_reported_at_once_in_the_words_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = start(Behavior::Fine).await;
    let error = fetch(
        Source::at(&url, "task.wrong"),
        &wanted(server.manifest.hash(), folder.path()),
    )
    .await
    .unwrap_err()
    .to_string();
    assert!(error.ends_with("status 403: no access"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_content_that_is_another_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = start(Behavior::Corrupt).await;
    let error = fetch(Source::at(&url, TOKEN), &wanted(server.manifest.hash(), folder.path())).await;
    assert!(matches!(
        error.unwrap_err(),
        Error::Files(files::Error::WrongContent { .. })
    ));
}

#[tokio::test]
async fn a_server_that_is_away_for_too_long_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut args = wanted(ManifestHash::of(b"x"), folder.path());
    args.patience = Duration::from_millis(300);
    let error = fetch(Source::at(&url, TOKEN), &args).await.unwrap_err();
    assert!(
        matches!(&error, Error::GaveUp { last, .. } if last.contains("refused")),
        "{error}"
    );
}
