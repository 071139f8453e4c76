//! Downloads from a server that has the outputs of one task.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use files::{Content, ContentHash, Entry, EntryKind, EntryPath, Manifest, ManifestHash, Mode, pack_head};
use serde_json::{Value, json};

use super::{download, find_outputs, read_manifest, summary};
use crate::client::{StubRequest, StubResponse, start_stub};
use crate::context::Context;
use crate::error::Error;

/// A file set with a folder, and a file beside it.
fn outputs() -> (Manifest, HashMap<ContentHash, Bytes>) {
    let mut contents = HashMap::new();
    let mut file = |path: &str, text: &'static str| {
        let content = Content::of(text.as_bytes()).unwrap();
        contents.insert(*content.hash(), Bytes::from(text));
        let kind = EntryKind::File {
            mtime: None,
            mode: Mode::new(0o444),
            contents: vec![content],
        };
        Entry {
            path: EntryPath::new(path).unwrap(),
            kind,
        }
    };
    let directory = Entry {
        path: EntryPath::new("results").unwrap(),
        kind: EntryKind::Directory { mode: Mode::new(0o755) },
    };
    let entries = vec![
        file("model.pt", "weights"),
        directory,
        file("results/a", "one"),
        file("results/b", "two"),
    ];
    (Manifest::new(entries).unwrap(), contents)
}

/// A server with the outputs of task `t1`, and the paths that it was asked for.
async fn server() -> (Context, Arc<Mutex<Vec<String>>>) {
    let (manifest, contents) = outputs();
    let set = manifest.hash();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let respond = move |request: StubRequest| -> Option<StubResponse> {
        if request.path == "/healthz" {
            return Some(("200 OK", json!({"service": "k8s-cli-api"}).to_string().into_bytes()));
        }
        assert!(request.head.contains("x-user: alice"), "{}", request.head);
        let mut log = log.lock().unwrap();
        log.push(request.path.clone());
        if log.len() == 3 {
            return Some((
                "503 Service Unavailable",
                json!({"detail": "busy"}).to_string().into_bytes(),
            ));
        }
        match request.path.rsplit('/').next().unwrap() {
            "outputs" if request.path.contains("/t1/") => {
                let body = json!({"files": set.to_string(), "entries": 4, "bytes": 13});
                Some(("200 OK", body.to_string().into_bytes()))
            }
            "outputs" => Some((
                "404 Not Found",
                json!({"detail": "nothing was kept"}).to_string().into_bytes(),
            )),
            "manifest" => Some(("200 OK", manifest.encode())),
            _ => {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                let mut pack = Vec::new();
                for hash in body["contents"].as_array().unwrap() {
                    let bytes = &contents[&hash.as_str().unwrap().parse().unwrap()];
                    pack.extend(pack_head(u32::try_from(bytes.len()).unwrap()));
                    pack.extend_from_slice(bytes);
                }
                Some(("200 OK", pack))
            }
        }
    };
    (start_stub(respond).await, asked)
}

#[tokio::test]
async fn outputs_are_written_beside_what_is_there_and_not_fetched_again() {
    let (context, asked) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("new");
    fs::create_dir_all(target.join("results")).unwrap();
    fs::write(target.join("results/a"), "old").unwrap();
    fs::write(target.join("results/mine"), "stays").unwrap();
    let outputs = find_outputs(&context, "t1").await.unwrap();
    assert_eq!((outputs.entries, outputs.bytes), (4, 13));
    let manifest = download(&context, ("t1", &outputs), &target, "x").await.unwrap();
    assert_eq!(summary(&manifest), "3 files (13 B)");
    for (path, text) in [
        ("model.pt", "weights"),
        ("results/a", "one"),
        ("results/b", "two"),
        ("results/mine", "stays"),
    ] {
        assert_eq!(fs::read_to_string(target.join(path)).unwrap(), text);
    }
    // The first request for contents was answered with 503.
    let expected = [
        "/tasks/t1/outputs",
        "/tasks/t1/outputs/manifest",
        "/tasks/t1/outputs/contents",
        "/tasks/t1/outputs/contents",
    ];
    assert_eq!(std::mem::take(&mut *asked.lock().unwrap()), expected);
    asked.lock().unwrap().push("three".to_owned());
    download(&context, ("t1", &outputs), &target, "x").await.unwrap();
    assert_eq!(asked.lock().unwrap()[1..], ["/tasks/t1/outputs/manifest"]);
}

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let (context, _) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let (outside, target) = (folder.path().join("outside"), folder.path().join("target"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&outside, target.join("results")).unwrap();
    let outputs = find_outputs(&context, "t1").await.unwrap();
    let error = download(&context, ("t1", &outputs), &target, "x").await.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("results"), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_not_kept_is_said_in_the_words_of_the_server() {
    let (context, _) = server().await;
    let error = find_outputs(&context, "t2").await.unwrap_err();
    assert!(matches!(&error, Error::NotFound(message) if message.text == "nothing was kept"));
    let mut outputs = find_outputs(&context, "t1").await.unwrap();
    outputs.files = ManifestHash::of(b"another").to_string();
    // The third request is answered with 503.
    assert!(read_manifest(&context, "t1", &outputs).await.is_err());
    let error = read_manifest(&context, "t1", &outputs).await.unwrap_err().to_string();
    assert!(error.contains("something other than the manifest"), "{error}");
}
