//! Copies from a store in memory, and from web servers that break off and change their files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Router, serve};
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use reqwest::{Client, Url};

use super::address::Address;
use super::bucket::Bucket;
use super::file::Copying;
use super::origin::Origin;
use super::{client, copy_bucket, unless_terminated};
use crate::error::Error;

const PATIENCE: Duration = Duration::from_secs(10);

fn bucket(text: &str) -> Bucket {
    match Address::parse(text).unwrap() {
        Address::Bucket(bucket) => bucket,
        Address::Web(_) => panic!("{text}"),
    }
}

async fn copied(url: &str, objects: &[(&str, &str)], into: &Path) -> Result<(), Error> {
    let store = InMemory::new();
    for (key, text) in objects {
        store
            .put(&Key::parse(key).unwrap(), text.to_string().into())
            .await
            .unwrap();
    }
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    copy_bucket(&bucket(url), store, Copying::new(PATIENCE), into).await
}

/// All files below a folder, with their contents.
fn tree(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn texts(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

const OBJECTS: [(&str, &str); 5] = [
    ("train/a/x", "1"),
    ("train/empty", ""),
    ("train/\u{fc} b", "2"),
    ("training/y", "3"),
    ("labels.zip", "4"),
];

#[tokio::test]
async fn a_folder_of_a_bucket_becomes_a_folder_beside_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("data/train");
    fs::create_dir_all(&into).unwrap();
    fs::write(into.join("mine"), "kept").unwrap();
    fs::write(into.join("\u{fc} b"), "replaced").unwrap();
    for url in ["s3://data/train", "gs://data/train/"] {
        copied(url, &OBJECTS, &into).await.unwrap();
        let expected = [("a/x", "1"), ("empty", ""), ("mine", "kept"), ("\u{fc} b", "2")];
        assert_eq!(tree(&into), texts(&expected), "{url}");
    }
    let all = folder.path().join("all");
    copied("s3://data", &OBJECTS, &all).await.unwrap();
    assert_eq!(tree(&all).len(), OBJECTS.len());
}

#[tokio::test]
async fn an_object_becomes_a_file_that_everybody_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("new/labels.zip");
    copied("s3://data/labels.zip", &OBJECTS, &into).await.unwrap();
    assert_eq!(fs::read_to_string(&into).unwrap(), "4");
    let file = fs::File::create(folder.path().join("other")).unwrap();
    let usual = file.metadata().unwrap().permissions().mode();
    assert_eq!(into.metadata().unwrap().permissions().mode(), usual);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_in_the_way_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("data");
    for (url, wanted) in [
        ("s3://data/nothing", "there is nothing at `s3://data/nothing`"),
        ("s3://data/trai", "there is nothing at `s3://data/trai`"),
        ("s3://data/labels.zip/", "there is nothing at `s3://data/labels.zip`"),
    ] {
        let error = copied(url, &OBJECTS, &into).await.unwrap_err().to_string();
        assert_eq!(error, wanted);
        assert!(!into.exists());
    }
    let error = copied("s3://data/labels.zip", &OBJECTS, folder.path())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is a folder on the node, but the source is a file; append a file name"),
        "{error}"
    );
    assert_eq!(tree(folder.path()), []);
}

/// A web server with one file.
#[derive(Clone)]
struct Web {
    requests: Arc<AtomicUsize>,
    /// Each answer ends after so many bytes, until the last.
    answers: Arc<Vec<usize>>,
    has_version: bool,
    /// The number of the answer from which on the file is another one.
    changes_at: usize,
}

const SIZE: usize = 1000;

fn content(letter: char) -> String {
    (0..SIZE / 4).map(|number| format!("{letter}{number:03}")).collect()
}

async fn send(State(web): State<Web>, headers: HeaderMap) -> Response {
    let number = web.requests.fetch_add(1, Ordering::Relaxed);
    let is_changed = number >= web.changes_at;
    let (text, version) = if is_changed {
        (content('b'), "\"b\"")
    } else {
        (content('a'), "\"a\"")
    };
    let range = headers.get("range").map(|range| range.to_str().unwrap().to_owned());
    let from = range.filter(|_| headers.get("if-range").is_some_and(|tag| tag == version));
    let from: usize = from.map_or(0, |range| range["bytes=".len()..range.len() - 1].parse().unwrap());
    let rest = text[from..].to_owned();
    let mut answer = Response::builder().header("content-length", rest.len());
    if web.has_version {
        answer = answer.header("etag", version);
    }
    if from > 0 {
        answer = answer.status(StatusCode::PARTIAL_CONTENT);
    }
    let body = match web.answers.get(number) {
        None => Body::from(rest),
        Some(bytes) => {
            let part = Ok(Bytes::from(rest[..(*bytes).min(rest.len())].to_owned()));
            Body::from_stream(stream::iter([part, Err(std::io::Error::other("cut"))]))
        }
    };
    answer.body(body).unwrap()
}

async fn listening(router: Router) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    tokio::spawn(async move { serve(listener, router).await });
    url.parse().unwrap()
}

/// Downloads the file, and returns it with the number of requests.
async fn downloaded(answers: Vec<usize>, has_version: bool, changes_at: usize) -> (String, usize) {
    let web = Web {
        requests: Arc::default(),
        answers: Arc::new(answers),
        has_version,
        changes_at,
    };
    let url = listening(Router::new().route("/file", get(send)).with_state(web.clone())).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file");
    let client = Client::builder().no_proxy().build().unwrap();
    Copying::new(PATIENCE)
        .file(&Origin::Web { client, url }, &to)
        .await
        .unwrap();
    assert_eq!(tree(folder.path()).len(), 1, "no other file is left");
    (fs::read_to_string(to).unwrap(), web.requests.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_download_that_breaks_off_continues_where_it_was() {
    let never = usize::MAX;
    assert_eq!(downloaded(vec![], true, never).await, (content('a'), 1));
    assert_eq!(downloaded(vec![400, 300], true, never).await, (content('a'), 3));
    // Without a version, the rest might be that of another file.
    assert_eq!(downloaded(vec![400, 300], false, never).await, (content('a'), 3));
    assert_eq!(downloaded(vec![400], true, 1).await, (content('b'), 2));
    assert_eq!(downloaded(vec![400], false, 1).await, (content('b'), 2));
}

#[tokio::test]
async fn a_copy_that_is_terminated_leaves_nothing_behind() {
    let stalls =
        get(async || Body::from_stream(stream::once(async { Ok::<_, Error>("begun") }).chain(stream::pending())));
    let url = listening(Router::new().route("/file", stalls)).await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("file");
    let client = Client::builder().no_proxy().build().unwrap();
    let origin = Origin::Web { client, url };
    let copying = Copying::new(PATIENCE);
    let has_begun = async || {
        while tree(folder.path()).iter().all(|(_, text)| text != "begun") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(())
    };
    let copied = unless_terminated(has_begun(), copying.file(&origin, &to)).await;
    assert!(matches!(copied, Err(Error::Terminated)), "{copied:?}");
    assert_eq!(tree(folder.path()), []);
}

#[tokio::test]
async fn what_will_be_the_same_again_ends_a_download_at_once() {
    let status = |status: StatusCode| get(async move || status.into_response());
    let router = Router::new()
        .route("/missing", status(StatusCode::NOT_FOUND))
        .route("/private", status(StatusCode::FORBIDDEN))
        .route("/wrong", status(StatusCode::BAD_REQUEST))
        .route("/circle", get(async || Redirect::temporary("/circle")));
    let url = listening(router).await;
    let folder = tempfile::tempdir().unwrap();
    for (path, wanted) in [
        ("/missing?sig=canary", "there is nothing at `http://127.0.0.1:"),
        ("/private", "/private` is denied: it needs a login; use `curl`"),
        ("/wrong", "the server answered with status 400"),
        ("/circle", "too many redirects"),
    ] {
        let client = Client::builder().no_proxy().build().unwrap();
        let url = url.join(path).unwrap();
        let to = folder.path().join("file");
        let failed = Copying::new(PATIENCE).file(&Origin::Web { client, url }, &to).await;
        let error = failed.unwrap_err().to_string();
        assert!(error.contains(wanted) && !error.contains("canary"), "{error}");
    }
    assert_eq!(tree(folder.path()), []);
}

#[tokio::test]
async fn nothing_is_downloaded_without_encryption() {
    let url = listening(Router::new().route("/file", get(async || "x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let client = client::for_web().unwrap();
    let failed = Copying::new(PATIENCE)
        .file(&Origin::Web { client, url }, &folder.path().join("file"))
        .await;
    assert!(matches!(failed, Err(Error::Store { .. })), "{failed:?}");
}
