//! A follower that has fallen behind knows what it has missed when Kubernetes rotates the log.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use archive::{LogKey, RecordKey};
use bytes::Bytes;
use clock::Clock;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use jiff::{Timestamp, ToSpan};
use kube::client::Body;
use task::TaskState;
use tokio::time::{sleep, timeout};
use tower::service_fn;

use super::{LogOrigin, PodFollower, PodLog, PodLogEnd, PodLogItem, PodLogRange};
use crate::cache::{Cache, Job, Phase, Pod, PodEnd};
use crate::kubernetes::{self, ApiClient};
use crate::logs::{Chunk, LineStyle, LogPosition, Missing, missing_before};

/// Bytes of a line, with its newline.
const LINE: usize = 1000;

/// Lines that are more than a ring holds, and that are sent at once.
const MANY: u64 = 1000;
const PIECE: usize = 16;

const LIMIT: Duration = Duration::from_secs(600);

type Piece = Result<Frame<Bytes>, Infallible>;

/// A kubelet with the log of one pod, of which it can read the newest file only.
#[derive(Clone, Default)]
struct Kubelet(Arc<Mutex<KubeletState>>);

#[derive(Default)]
struct KubeletState {
    lines: u64,
    file: Vec<String>,
    followers: Vec<UnboundedSender<Piece>>,
}

fn line(number: u64) -> String {
    format!("{number:0width$}\n", width = LINE - 1)
}

fn time(number: u64) -> Timestamp {
    let start: Timestamp = "2026-11-27T10:00:00Z".parse().unwrap();
    start + i64::try_from(number).unwrap().milliseconds()
}

fn position(number: u64) -> LogPosition {
    LogPosition::START.next_line(time(number))
}

fn send(lines: &[String], to: &UnboundedSender<Piece>) {
    for piece in lines.chunks(PIECE) {
        // A follower may have gone.
        let _ = to.unbounded_send(Ok(Frame::data(piece.concat().into())));
    }
}

impl Kubelet {
    fn answer(&self, request: &Request<Body>) -> Response<StreamBody<UnboundedReceiver<Piece>>> {
        let (sender, receiver) = unbounded();
        let mut state = self.0.lock().unwrap();
        send(&state.file, &sender);
        if request.uri().query().is_some_and(|query| query.contains("follow=true")) {
            state.followers.push(sender);
        }
        Response::new(StreamBody::new(receiver))
    }

    fn write(&self, count: u64) {
        let mut state = self.0.lock().unwrap();
        let numbers = state.lines..state.lines + count;
        let lines: Vec<String> = numbers.map(|n| format!("{:.9} {}", time(n), line(n))).collect();
        state.lines += count;
        for follower in &state.followers {
            send(&lines, follower);
        }
        state.file.extend(lines);
    }

    fn rotate(&self) {
        self.0.lock().unwrap().file.clear();
    }

    /// Ends the responses that follow the log.
    fn interrupt(&self) {
        self.0.lock().unwrap().followers.clear();
    }
}

/// A follower, and what it has read.
struct Reader {
    kubelet: Kubelet,
    origin: LogOrigin,
    follower: PodFollower,
    chunks: Vec<Arc<Chunk>>,
}

impl Reader {
    fn new() -> Self {
        let kubelet = Kubelet::default();
        let server = kubelet.clone();
        let service = service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let client = kubernetes::client(service, "default");
        let pod = Pod::example(0, Phase::Running { since: None });
        let key = Job::example(0, 1).key;
        let archived = LogKey {
            task: RecordKey::new(Timestamp::UNIX_EPOCH, &key.id, "0"),
            rank: 0,
            attempt: 1,
            created_at: 0,
            pod: pod.uid.clone(),
        };
        let mut log = PodLog::archived(&key, 1, archived);
        log.source.pod.clone_from(&pod.name);
        log.is_gone = false;
        let cache = Cache::new("default".to_owned(), Clock::system(), |_| false);
        cache.set_example(Job::example(0, 1), pod);
        let origin = LogOrigin {
            client: ApiClient::new(client, "default".to_owned(), Clock::system()),
            cache: Arc::new(cache),
            shared_streams: Arc::default(),
            archived: None,
        };
        let range = PodLogRange {
            follow: true,
            tail: None,
            from: LogPosition::START,
            counts_missing: true,
        };
        Self {
            follower: PodFollower::new(&origin, log, range, true),
            kubelet,
            origin,
            chunks: Vec::new(),
        }
    }

    /// Reads a chunk.
    async fn read(&mut self) -> Option<PodLogEnd> {
        let next = timeout(LIMIT, self.follower.next(&self.origin)).await;
        match next.expect("the log goes on, or ends").1 {
            PodLogItem::Chunk(chunk) => self.chunks.push(chunk),
            PodLogItem::End(end) => return Some(end),
        }
        None
    }

    /// Reads the first line, and falls behind so far that it reads the file on its own.
    async fn fall_behind(&mut self) {
        self.kubelet.write(1);
        assert_eq!(self.read().await, None);
        self.kubelet.write(MANY);
        self.wait_until_behind(position(0)).await;
        assert_eq!(self.read().await, None);
        assert!(!self.follower.is_live());
    }

    /// Waits until the shared stream has gone on so far that nobody can join it here.
    async fn wait_until_behind(&self, position: LogPosition) {
        let behind = async {
            while self.origin.shared_streams.covers("pod-0", position) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LIMIT, behind).await.expect("the shared stream goes on");
    }

    /// Ends the pod, and reads the rest of its log. Returns the text, and what is missing in it.
    async fn finish(mut self) -> (String, Vec<Missing>) {
        let end = PodEnd {
            state: TaskState::Completed,
            reason: None,
            exit_code: Some(0),
            has_run: true,
            started_at: None,
            finished_at: None,
        };
        self.origin
            .cache
            .set_example(Job::example(0, 1), Pod::example(0, Phase::Ended(end)));
        self.kubelet.interrupt();
        let end = loop {
            if let Some(end) = self.read().await {
                break end;
            }
        };
        assert_eq!(end, PodLogEnd::Complete);
        let mut text = Vec::new();
        let mut from = LogPosition::START;
        for chunk in &self.chunks {
            text.extend_from_slice(&chunk.write(from, &LineStyle::default()));
            from = from.max(chunk.after());
        }
        let gaps = (0..self.chunks.len()).filter(|index| self.chunks[*index].gap.is_some());
        let missing = gaps.map(|index| missing_before(&self.chunks[index..])).collect();
        (String::from_utf8(text).unwrap(), missing)
    }
}

fn lines(numbers: impl Iterator<Item = u64>) -> String {
    numbers.map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_missing_if_a_file_was_read_to_its_end_before_the_next_one() {
    let mut reader = Reader::new();
    reader.fall_behind().await;
    reader.kubelet.rotate();
    reader.kubelet.write(MANY);
    reader.wait_until_behind(position(MANY)).await;
    let (text, missing) = reader.finish().await;
    assert!(text == lines(0..2 * MANY + 1));
    assert_eq!(missing, [Missing::Nothing]);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_to_a_file_after_it_was_read_is_counted() {
    let mut reader = Reader::new();
    reader.fall_behind().await;
    reader.kubelet.write(3);
    reader.kubelet.rotate();
    reader.kubelet.write(MANY);
    reader.wait_until_behind(position(MANY + 3)).await;
    let (text, missing) = reader.finish().await;
    assert!(text == lines((0..2 * MANY + 4).filter(|n| !(MANY + 1..MANY + 4).contains(n))));
    assert_eq!(missing, [Missing::Bytes(3 * LINE as u64)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_shared_stream_has_missed_as_well_is_unknown() {
    let mut reader = Reader::new();
    reader.fall_behind().await;
    reader.kubelet.interrupt();
    reader.kubelet.write(3);
    reader.kubelet.rotate();
    reader.kubelet.write(MANY);
    reader.wait_until_behind(position(MANY + 3)).await;
    let (_, missing) = reader.finish().await;
    assert_eq!(missing, [Missing::Unknown]);
}
