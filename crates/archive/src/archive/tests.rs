//! Records are found page by page, writers of a log store each frame once, and limits delete the oldest logs.

use futures::TryStreamExt;
use jiff::Timestamp;
use task::TaskState;
use task::record::{EndKind, RECORD_VERSION, TaskEnd, Usage};
use task::wire::{TaskMetadata, TaskStatus};

use super::{Archive, HistoryFilter, InUse, Limits, Location, LogKey, ReadFrom, RecordKey, TaskRecord};
use crate::file_store::{FileStore, FilesInUse};
use crate::frame::Frame;
use crate::index::HistoryCursor;
use crate::log_writer::Put;
use crate::position::Position;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn record(second: i64, user: &str, name: &str, status: TaskState) -> (RecordKey, TaskRecord) {
    let id = format!("{second:08}");
    let task = TaskStatus {
        task_id: id.clone(),
        name: name.to_owned(),
        status,
        reason: None,
        message: Some("Out of Memory".to_owned()).filter(|_| status == TaskState::Failed),
        created_at: task::time::format(time(second)),
        updated_at: task::time::format(time(second)),
        username: user.to_owned(),
        metadata: TaskMetadata {
            job_name: name.to_owned(),
            namespace: "default".to_owned(),
            num_nodes: 1,
            node_jobs: Vec::new(),
            succeeded_nodes: 0,
            failed_nodes: 0,
            running_nodes: 0,
            pending_nodes: 0,
            attempts: Vec::new(),
            nodes: Vec::new(),
            endpoints: Vec::new(),
            group: None,
        },
    };
    let record = TaskRecord {
        version: RECORD_VERSION,
        task,
        end: Some(TaskEnd {
            how: EndKind::Finished,
            at: task::time::format(time(second)),
            by: None,
        }),
        definition: None,
        requests: None,
        usage: Usage::default(),
        logs: Vec::new(),
    };
    (RecordKey::new(time(second), &id, user), record)
}

async fn names(archive: &Archive, filter: HistoryFilter) -> Vec<String> {
    let page = archive.records(filter).await.unwrap();
    let entry = |(_, entry): &(String, String)| serde_json::from_str::<serde_json::Value>(entry).unwrap();
    page.iter()
        .map(|row| entry(row)["name"].as_str().unwrap().to_owned())
        .collect()
}

fn all() -> HistoryFilter {
    HistoryFilter {
        limit: 100,
        ..HistoryFilter::default()
    }
}

async fn archive_with_records() -> (Archive, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::open(&Location::folder(dir.path().to_owned()), None, Limits::default()).unwrap();
    for (second, user, name, status) in [
        (1, "alice", "train-1", TaskState::Completed),
        (2, "bob", "train-2", TaskState::Failed),
        (3, "alice", "eval[1]", TaskState::Failed),
    ] {
        let (key, record) = record(second, user, name, status);
        archive.put_record(&key, &record).await.unwrap();
    }
    (archive, dir)
}

#[tokio::test]
async fn records_are_found_by_user_state_name_time_and_text() {
    let (archive, _dir) = archive_with_records().await;
    assert_eq!(names(&archive, all()).await, ["eval[1]", "train-2", "train-1"]);
    let filters: [(HistoryFilter, &[&str]); 9] = [
        (
            HistoryFilter {
                user: Some("alice".to_owned()),
                ..all()
            },
            &["eval[1]", "train-1"],
        ),
        (
            HistoryFilter {
                user: Some("ali".to_owned()),
                ..all()
            },
            &[],
        ),
        (
            HistoryFilter {
                states: vec![TaskState::Failed],
                ..all()
            },
            &["eval[1]", "train-2"],
        ),
        (
            HistoryFilter {
                name: Some("train-?".to_owned()),
                ..all()
            },
            &["train-2", "train-1"],
        ),
        (
            HistoryFilter {
                name: Some("*[1]".to_owned()),
                ..all()
            },
            &["eval[1]"],
        ),
        (
            HistoryFilter {
                since: Some(time(2)),
                ..all()
            },
            &["eval[1]", "train-2"],
        ),
        (
            HistoryFilter {
                until: Some(time(2)),
                ..all()
            },
            &["train-1"],
        ),
        (
            HistoryFilter {
                text: Some("of memory".to_owned()),
                ..all()
            },
            &["eval[1]", "train-2"],
        ),
        (
            HistoryFilter {
                text: Some("TRAIN".to_owned()),
                ..all()
            },
            &["train-2", "train-1"],
        ),
    ];
    for (filter, expected) in filters {
        assert_eq!(names(&archive, filter.clone()).await, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn pages_follow_each_other() {
    let (archive, _dir) = archive_with_records().await;
    let mut filter = HistoryFilter { limit: 2, ..all() };
    let first = archive.records(filter.clone()).await.unwrap();
    filter.cursor = Some(HistoryCursor(first[1].0.clone()));
    assert_eq!(names(&archive, filter).await, ["train-1"]);
}

#[tokio::test]
async fn the_first_record_of_a_task_stays() {
    let (archive, _dir) = archive_with_records().await;
    let (key, other) = record(1, "alice", "other", TaskState::Failed);
    archive.put_record(&key, &other).await.unwrap();
    assert_eq!(archive.record(&key).await.unwrap().unwrap().task.name, "train-1");
    assert_eq!(names(&archive, all()).await, ["eval[1]", "train-2", "train-1"]);
    assert_eq!(
        archive.find_record("alice", "00000001").await.unwrap(),
        Some(key.clone())
    );
    assert_eq!(archive.find_record("bob", "00000001").await.unwrap(), None);
    assert!(archive.has_record(&key).await.unwrap());
}

#[tokio::test]
async fn an_index_that_was_lost_is_rebuilt_and_one_that_is_damaged_is_replaced() {
    let (archive, dir) = archive_with_records().await;
    let index = tempfile::tempdir().unwrap();
    let reopen = || {
        Archive::open(
            &Location::folder(dir.path().to_owned()),
            Some(index.path().to_owned()),
            Limits::default(),
        )
        .unwrap()
    };
    let other = reopen();
    assert!(!other.is_indexed());
    assert_eq!(other.rebuild_index().await.unwrap(), 3);
    assert!(other.is_indexed());
    assert_eq!(names(&other, all()).await, names(&archive, all()).await);
    drop(other);
    std::fs::write(index.path().join("records.db"), vec![b'x'; 8192]).unwrap();
    let (key, _) = record(3, "alice", "eval[1]", TaskState::Failed);
    std::fs::remove_file(dir.path().join(format!("records/{}.json", key.as_str()))).unwrap();
    let other = reopen();
    assert_eq!(other.rebuild_index().await.unwrap(), 2);
    assert_eq!(names(&other, all()).await, ["train-2", "train-1"]);
    assert_eq!(archive.rebuild_index().await.unwrap(), 2);
    assert_eq!(names(&archive, all()).await, ["train-2", "train-1"]);
}

fn position(second: i64) -> Position {
    Position {
        time: time(second),
        lines: 1,
        bytes: u64::MAX,
    }
}

fn frame(before: Option<i64>, after: i64, text: &str) -> Frame {
    let lines = u32::try_from(text.lines().count()).unwrap();
    let before = before.map(position);
    Frame::new((before, position(after)), lines, text.into())
}

fn log_key(rank: u32, pod: &str) -> LogKey {
    LogKey {
        task: record(1, "alice", "train", TaskState::Completed).0,
        rank,
        attempt: 1,
        created_at: 1,
        pod: pod.to_owned(),
    }
}

async fn text(archive: &Archive, key: &LogKey, from: ReadFrom) -> String {
    let parts: Vec<_> = archive
        .read_log(key.clone(), from)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    String::from_utf8(parts.concat()).unwrap()
}

#[tokio::test]
async fn two_writers_of_a_log_store_each_frame_once_and_continue_after_the_others() {
    let archive = Archive::open(&Location::memory(), None, Limits::default()).unwrap();
    let key = log_key(0, "uid");
    let mut one = archive.log(key.clone()).await.unwrap();
    let mut two = archive.log(key.clone()).await.unwrap();
    assert_eq!(one.put(&frame(None, 2, "1\n2\n")).await.unwrap(), Put::Stored);
    let taken = two.put(&frame(None, 1, "1\n")).await.unwrap();
    assert_eq!((taken, two.after()), (Put::Taken(position(2)), Some(position(2))));
    assert_eq!(two.put(&frame(Some(2), 3, "3\n")).await.unwrap(), Put::Stored);
    assert_eq!(text(&archive, &key, ReadFrom::Position(None)).await, "1\n2\n3\n");
    // A third one that starts now knows both.
    let mut three = archive.log(key.clone()).await.unwrap();
    assert_eq!(
        (three.after(), three.size(), three.is_ended()),
        (Some(position(3)), (3, 6), false)
    );
    three.end(Some("the node was lost")).await.unwrap();
    assert!(archive.log(key.clone()).await.unwrap().is_ended());
    assert_eq!(text(&archive, &key, ReadFrom::Tail(2)).await, "2\n3\n");
    assert_eq!(text(&archive, &key, ReadFrom::Position(Some(position(3)))).await, "3\n");
}

/// A log of three frames in a folder, and the paths of the frames and of the end.
async fn log_in_folder(dir: &std::path::Path, is_ended: bool) -> (Archive, LogKey, Vec<std::path::PathBuf>) {
    let archive = Archive::open(&Location::folder(dir.to_owned()), None, Limits::default()).unwrap();
    let key = log_key(0, "uid");
    let mut log = archive.log(key.clone()).await.unwrap();
    for second in 1..4 {
        let before = Some(second - 1).filter(|before| *before > 0);
        log.put(&frame(before, second, &format!("{second}\n"))).await.unwrap();
    }
    if is_ended {
        log.end(None).await.unwrap();
    }
    let frames = (0..3).map(|number| key.frame(number)).chain([key.end()]);
    let paths = frames.map(|path| dir.join(path.as_ref())).collect();
    (archive, key, paths)
}

fn truncate(path: &std::path::Path, length: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

#[tokio::test]
async fn a_frame_that_is_lost_or_damaged_is_a_line_of_the_log_and_the_rest_is_read() {
    let notice = |size: &str| format!("[k8s-cli: a part of the log is missing here: {size}; the archive is damaged]");
    let known = format!("1\n{:.9} {}\n3\n", time(1), notice("1 lines, 2 bytes"));
    let unknown = format!("1\n{:.9} {}\n3\n", time(1), notice("an unknown number of lines"));
    for is_ended in [true, false] {
        for kept in ["nothing", "no bytes", "10 bytes", "all but a byte"] {
            let dir = tempfile::tempdir().unwrap();
            let (archive, key, paths) = log_in_folder(dir.path(), is_ended).await;
            let whole = std::fs::metadata(&paths[1]).unwrap().len();
            match kept {
                "nothing" => std::fs::remove_file(&paths[1]).unwrap(),
                "no bytes" => truncate(&paths[1], 0),
                "10 bytes" => truncate(&paths[1], 10),
                _ => truncate(&paths[1], whole - 1),
            }
            // Its header may be readable, or known from the end of the log.
            let is_known = is_ended || kept == "all but a byte";
            let expected = if is_known { &known } else { &unknown };
            let read = text(&archive, &key, ReadFrom::Position(None)).await;
            assert_eq!(read, *expected, "{is_ended} {kept}");
            assert_eq!(text(&archive, &key, ReadFrom::Tail(1)).await, "3\n");
        }
    }
}

#[tokio::test]
async fn a_log_whose_last_frames_or_end_are_lost_is_read_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, key, paths) = log_in_folder(dir.path(), true).await;
    std::fs::remove_file(&paths[1]).unwrap();
    std::fs::remove_file(&paths[2]).unwrap();
    let read = text(&archive, &key, ReadFrom::Position(None)).await;
    assert!(read.starts_with("1\n") && read.contains("2 lines, 4 bytes"), "{read}");
    let dir = tempfile::tempdir().unwrap();
    let (archive, key, paths) = log_in_folder(dir.path(), true).await;
    truncate(&paths[3], 5);
    assert_eq!(text(&archive, &key, ReadFrom::Position(None)).await, "1\n2\n3\n");
    assert!(archive.readable_log(key).await.unwrap().is_ended());
}

#[tokio::test]
async fn a_writer_that_comes_late_continues_after_all_frames_of_the_others() {
    let archive = Archive::open(&Location::memory(), None, Limits::default()).unwrap();
    let key = log_key(0, "uid");
    let mut late = archive.log(key.clone()).await.unwrap();
    let mut other = archive.log(key.clone()).await.unwrap();
    for second in 1..4 {
        let before = Some(second - 1).filter(|before| *before > 0);
        other.put(&frame(before, second, "x\n")).await.unwrap();
    }
    let put = late.put(&frame(None, 1, "x\n")).await.unwrap();
    assert_eq!((put, late.size().0), (Put::Taken(position(3)), 3));
    assert_eq!(late.put(&frame(Some(3), 4, "x\n")).await.unwrap(), Put::Stored);
}

#[tokio::test]
async fn the_logs_of_a_task_are_listed_in_the_order_of_its_nodes_and_pods() {
    let archive = Archive::open(&Location::memory(), None, Limits::default()).unwrap();
    let mut keys = vec![log_key(10, "a"), log_key(2, "c"), log_key(2, "b")];
    keys[1].created_at = 5;
    for key in &keys {
        let mut log = archive.log(key.clone()).await.unwrap();
        log.put(&frame(None, 1, "x\n")).await.unwrap();
        log.end(None).await.unwrap();
    }
    keys.reverse();
    assert_eq!(archive.logs_of(&keys[0].task).await.unwrap(), keys);
}

#[tokio::test]
async fn the_oldest_logs_make_room_and_their_records_stay() {
    let size = frame(None, 1, "a line\n").encode().unwrap().len() as u64;
    let limits = Limits {
        max_bytes: Some(3 * size - 1),
        ..Limits::default()
    };
    let archive = Archive::open(&Location::memory(), None, limits).unwrap();
    let mut keys = Vec::new();
    for second in 1..5 {
        let (task, record) = record(second, "alice", "train", TaskState::Completed);
        let key = LogKey {
            task: task.clone(),
            ..log_key(0, "uid")
        };
        let mut log = archive.log(key.clone()).await.unwrap();
        let frame = frame(None, 1, "a line\n");
        let is_stored = log.put(&frame).await.is_ok();
        assert_eq!(is_stored, second < 4, "{second}");
        if !is_stored {
            log.put_anyway(&frame).await.unwrap();
        }
        archive.put_record(&task, &record).await.unwrap();
        keys.push(key);
    }
    assert!(!archive.has_room());
    assert_eq!(
        archive.prune(time(10), || None).await.unwrap(),
        0,
        "nobody knows what is in use"
    );
    let in_use = || InUse {
        written: [(keys[1].task.clone(), "alice".into())].into(),
        ..InUse::default()
    };
    let deleted = archive.prune(time(10), || Some(in_use())).await.unwrap();
    assert!(archive.has_room());
    assert!(deleted >= 1);
    let mut left = Vec::new();
    for key in &keys {
        left.push(archive.logs_of(&key.task).await.unwrap().len());
    }
    assert_eq!(left[..2], [0, 1], "the second is live");
    assert_eq!(names(&archive, all()).await.len(), 4);
}

#[tokio::test]
async fn a_user_at_the_limit_makes_room_with_their_own_oldest_logs() {
    let size = frame(None, 1, "a line\n").encode().unwrap().len() as u64;
    let limits = Limits {
        max_user_bytes: Some(3 * size - 1),
        ..Limits::default()
    };
    let archive = Archive::open(&Location::memory(), None, limits).unwrap();
    let mut keys = Vec::new();
    let mut put = Vec::new();
    for (second, user) in [
        (1, "bob"),
        (2, "alice"),
        (3, "alice"),
        (4, "alice"),
        (5, "alice"),
        (6, "bob"),
    ] {
        let (task, record) = record(second, user, "train", TaskState::Completed);
        let key = LogKey {
            task: task.clone(),
            ..log_key(0, "uid")
        };
        let mut log = archive.log(key.clone()).await.unwrap().of_user(&user.into());
        put.push(log.put(&frame(None, 1, "a line\n")).await);
        archive.put_record(&task, &record).await.unwrap();
        keys.push(key);
    }
    let full: Vec<bool> = put
        .iter()
        .map(|put| matches!(put, Err(crate::Error::UserFull)))
        .collect();
    assert_eq!(full, [false, false, false, false, true, false]);
    assert!(archive.has_room() && !archive.has_room_for_all());
    archive.prune(time(10), || Some(InUse::default())).await.unwrap();
    assert!(archive.has_room_for_all());
    let mut left = Vec::new();
    for key in &keys {
        left.push(archive.logs_of(&key.task).await.unwrap().len());
    }
    assert_eq!(left, [1, 0, 1, 1, 0, 1], "bob has older logs");
    assert_eq!(names(&archive, all()).await.len(), 6, "records stay");
}

#[tokio::test]
async fn outputs_are_kept_as_long_as_their_task_or_its_record() {
    let (archive, dir) = archive_with_records().await;
    let limits = files::Limits::NONE;
    let store = FileStore::in_archive(&archive, limits, 1 << 20);
    let content = files::Content::of(b"one").unwrap();
    let kind = files::EntryKind::File {
        mtime: None,
        mode: files::Mode::new(0o644),
        contents: vec![content],
    };
    let path = files::EntryPath::new("file").unwrap();
    let manifest = files::Manifest::new(vec![files::Entry { path, kind }]).unwrap();
    store.put_contents("alice", vec!["one".into()]).await.unwrap();
    assert!(store.put_manifest("alice", &manifest).await.unwrap().is_empty());
    let (recorded, _) = record(1, "alice", "train-1", TaskState::Completed);
    let (live, _) = record(9, "alice", "train-9", TaskState::Running);
    for task in [&recorded, &live] {
        store.put_outputs("alice", task, &manifest.hash()).await.unwrap();
    }
    assert_eq!(store.outputs("alice", &live).await.unwrap(), Some(manifest.hash()));
    assert_eq!(store.outputs("bob", &live).await.unwrap(), None);
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(25);
    let with_live = FilesInUse {
        tasks: [live.clone()].into(),
        ..FilesInUse::default()
    };
    let are_kept = async |task| store.outputs("alice", task).await.unwrap().is_some();
    assert_eq!(store.prune(later, &with_live).await.unwrap(), 0);
    assert_eq!((are_kept(&live).await, are_kept(&recorded).await), (true, true));
    assert_eq!(store.prune(later, &FilesInUse::default()).await.unwrap(), 0);
    assert_eq!((are_kept(&live).await, are_kept(&recorded).await), (false, true));
    assert!(store.is_complete("alice", &manifest).await.unwrap());
    let without_records = FileStore::open(&Location::folder(dir.path().to_owned()), limits, 1 << 20).unwrap();
    assert_eq!(without_records.prune(later, &FilesInUse::default()).await.unwrap(), 1);
}
