//! Servers that archive the same log write every line once and in order, with a notice where lines are missing.

use std::sync::Arc;

use archive::{Archive, Location, LogKey, Put, ReadFrom, RecordKey};
use futures::TryStreamExt;
use jiff::Timestamp;
use proptest::prelude::*;
use tokio::time::Instant;

use super::{FrameBuffer, LineStyle, LogPosition, notice};
use crate::logs::{Chunk, Parser};

fn key() -> LogKey {
    LogKey {
        task: RecordKey::new(Timestamp::UNIX_EPOCH, "abcd1234", "0"),
        rank: 0,
        attempt: 1,
        created_at: 0,
        pod: "uid".to_owned(),
    }
}

/// The chunks that a server reads of a log that starts after `from`, when it arrives in pieces of this size.
fn read(text: &str, from: LogPosition, piece: usize) -> Vec<Arc<Chunk>> {
    let mut parser = Parser::resume(from);
    let style = LineStyle::default();
    let mut chunks = Vec::new();
    for piece in text.as_bytes().chunks(piece) {
        chunks.extend(parser.push(piece, &style).unwrap());
        // A progress bar is shown before its line ends.
        chunks.extend(
            parser
                .has_partial_line()
                .then(|| parser.finish(&style).unwrap())
                .flatten(),
        );
    }
    chunks.into_iter().map(Arc::new).collect()
}

/// One server at work: what it has read, and when it writes.
struct Server {
    log: archive::LogState,
    buffer: FrameBuffer,
    rest: std::vec::IntoIter<Arc<Chunk>>,
}

impl Server {
    async fn start(archive: &Archive, text: &str, piece: usize) -> Self {
        let log = archive.log(key()).await.unwrap();
        let from = LogPosition::from_archive(log.after());
        Self {
            log,
            buffer: FrameBuffer::new(from),
            rest: read(text, from, piece).into_iter(),
        }
    }

    /// Reads some chunks, and writes them.
    async fn advance(&mut self, chunks: usize) {
        for chunk in self.rest.by_ref().take(chunks) {
            assert!(chunk.gap.is_none(), "nothing is missing");
            self.buffer.push(chunk);
        }
        while let Some(frame) = self.buffer.frame() {
            let after = match self.log.put(&frame).await.unwrap() {
                Put::Stored => frame.header.after,
                Put::Taken(after) => after,
            };
            self.buffer.advance(LogPosition::from_archive(Some(after)), false);
        }
    }
}

/// Lines whose times stand still or go back a little.
fn log_text() -> impl Strategy<Value = String> {
    let line = (0_i64..3, "[a-c ]{0,6}");
    prop::collection::vec(line, 1..20).prop_map(|lines| {
        let mut second = 1_795_000_000;
        let mut text = String::new();
        for (step, content) in lines {
            second += step;
            let time = Timestamp::new(second, 5).unwrap();
            text.push_str(&format!("{time:.9} {content}\n"));
        }
        text
    })
}

proptest! {
    /// Whatever two servers read and write, and whenever one of them is killed and starts again.
    #[test]
    fn the_archive_has_every_line_once_and_in_order(
        text in log_text(),
        pieces in (1_usize..60, 1_usize..60),
        steps in prop::collection::vec((any::<bool>(), 0_usize..6, prop::bool::weighted(0.2)), 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let stored = runtime.block_on(async {
            let archive = Archive::open(&Location::memory(), None, archive::Limits::default()).unwrap();
            let mut servers = [
                Server::start(&archive, &text, pieces.0).await,
                Server::start(&archive, &text, pieces.1).await,
            ];
            for (which, chunks, is_killed) in steps {
                let server = &mut servers[usize::from(which)];
                if is_killed {
                    *server = Server::start(&archive, &text, pieces.0).await;
                }
                server.advance(chunks).await;
            }
            servers[0].advance(usize::MAX).await;
            let frames = archive.read_log(key(), ReadFrom::Position(None)).await.unwrap();
            let frames: Vec<_> = frames.try_collect().await.unwrap();
            String::from_utf8(frames.concat()).unwrap()
        });
        prop_assert_eq!(stored, text);
    }
}

#[test]
fn lines_that_were_rotated_away_leave_a_notice() {
    let text = "2026-11-27T10:00:00.000000000Z one\n2026-11-27T10:00:09.000000000Z ten\n";
    let first = read(&text[..35], LogPosition::START, 1000);
    let mut buffer = FrameBuffer::new(LogPosition::START);
    buffer.push(Arc::clone(&first[0]));
    buffer.advance(first[0].after(), false);
    // The line that was read last is not there anymore.
    let rest = read(&text[35..], first[0].after(), 1000);
    assert!(rest[0].gap.is_some());
    buffer.push(Arc::clone(&rest[0]));
    let frame = buffer.frame().unwrap();
    insta::assert_snapshot!(String::from_utf8_lossy(&frame.text), @"
    2026-11-27T10:00:00.000000000Z [k8s-cli: a part of the log is missing here: an unknown number of bytes, perhaps none, between 2026-11-27T10:00:00.000Z and 2026-11-27T10:00:09.000Z; Kubernetes rotated the log before they were read]
    2026-11-27T10:00:09.000000000Z ten
    ");
    assert_eq!(
        (frame.header.lines, frame.header.gap, frame.header.missing),
        (2, true, None)
    );
    buffer.advance(rest[0].after(), false);
    let lost = notice::cut(rest[0].after(), 0, "the pod was deleted");
    let lost = buffer.lost_frame(&lost).unwrap();
    insta::assert_snapshot!(String::from_utf8_lossy(&lost.text), @"2026-11-27T10:00:09.000000000Z [k8s-cli: a part of the log is missing here: an unknown number of bytes after 2026-11-27T10:00:09.000Z; the pod was deleted]");
}

#[test]
fn another_server_that_has_archived_what_follows_a_gap_has_written_the_notice() {
    let text = "2026-11-27T10:00:09.000000000Z ten\n2026-11-27T10:00:10.000000000Z eleven\n";
    let before = LogPosition::since("2026-11-27T10:00:00Z".parse().unwrap());
    let rest = read(text, before, 1000);
    assert!(rest[0].gap.is_some());
    let mut buffer = FrameBuffer::new(before);
    buffer.push(Arc::clone(&rest[0]));
    buffer.advance(read(&text[..35], before, 1000)[0].after(), true);
    let frame = buffer.frame().unwrap();
    assert_eq!(String::from_utf8_lossy(&frame.text), &text[35..]);
    assert!(!frame.header.gap);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_stays_quiet_is_written_less_and_less_often() {
    let mut buffer = FrameBuffer::new(LogPosition::START);
    let mut waited = Vec::new();
    let mut write = |buffer: &mut FrameBuffer, text: &str, is_second: bool| {
        for chunk in read(text, buffer.start, text.len()) {
            buffer.push(chunk);
        }
        waited.push(buffer.due().unwrap().duration_since(Instant::now()).as_secs());
        let after = buffer.frame().unwrap().header.after;
        buffer.advance(LogPosition::from_archive(Some(after)), is_second);
    };
    for second in 0..6 {
        write(&mut buffer, &format!("2026-11-27T10:00:0{second}Z a line\n"), false);
    }
    let loud = format!("2026-11-27T10:00:10Z {}\n", "x".repeat(3000)).repeat(400);
    write(&mut buffer, &loud, false);
    write(&mut buffer, "2026-11-27T10:00:11Z a line\n", true);
    write(&mut buffer, "2026-11-27T10:00:12Z a line\n", false);
    assert_eq!(waited, [5, 10, 20, 40, 60, 60, 0, 5, 22]);
}

/// A reader that had fallen behind joins the shared stream, which cuts the log into other pieces.
#[test]
fn pieces_that_overlap_are_in_a_frame_once() {
    let text: String = (0..9)
        .map(|line| format!("2026-11-27T10:00:0{line}.000000000Z line {line}\n"))
        .collect();
    let own = read(&text, LogPosition::START, 100);
    let shared = read(&text, LogPosition::START, 170);
    let mut buffer = FrameBuffer::new(LogPosition::START);
    let joined_at = own[1].after();
    own.into_iter().take(2).for_each(|chunk| buffer.push(chunk));
    let rest = shared.into_iter().filter(|chunk| chunk.after() > joined_at);
    let rest: Vec<_> = rest.collect();
    assert!(rest[0].before < joined_at, "the pieces overlap");
    rest.into_iter().for_each(|chunk| buffer.push(chunk));
    let unwritten = buffer.unwritten();
    let frame = buffer.frame().unwrap();
    assert_eq!(frame.text, text.as_bytes());
    assert_eq!(frame.header.lines, 9);
    assert_eq!(unwritten, 9 * "line 0\n".len() as u64);
}
