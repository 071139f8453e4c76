//! Followers get every chunk in order, or notice that they are behind.

use bytes::Bytes;

use super::super::chunk::LineStyle;
use super::super::parse::Parser;
use super::super::position::LogPosition;
use super::{CAPACITY, LogEnd, Ring, RingCursor, RingItem};

/// Writes `count` lines of `size` bytes into the ring.
async fn write(ring: &Ring, parser: &mut Parser, count: usize, size: usize) {
    for _ in 0..count {
        let line = format!("2026-11-23T15:30:35Z {}\n", "x".repeat(size));
        let chunk = parser.push(line.as_bytes(), &LineStyle::default()).unwrap().unwrap();
        ring.push(chunk).await;
    }
}

async fn text(cursor: &RingCursor) -> Option<Bytes> {
    match cursor.next().await {
        RingItem::Chunk(chunk) => Some(chunk.common(LogPosition::START, &LineStyle::default())),
        RingItem::Behind | RingItem::Ended(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn every_follower_gets_every_chunk_and_the_end() {
    let ring = Ring::new(LogPosition::START);
    let cursors: Vec<RingCursor> = (0..3).filter_map(|_| ring.follow(LogPosition::START)).collect();
    write(&ring, &mut Parser::resume(LogPosition::START), 4, 10).await;
    ring.close(LogEnd::Complete);
    for cursor in &cursors {
        for _ in 0..4 {
            assert_eq!(text(cursor).await.unwrap().len(), 11);
        }
        assert!(matches!(cursor.next().await, RingItem::Ended(LogEnd::Complete)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_stands_still_falls_behind_and_keeps_nobody() {
    let ring = Ring::new(LogPosition::START);
    let still = ring.follow(LogPosition::START).unwrap();
    write(&ring, &mut Parser::resume(LogPosition::START), 40, CAPACITY / 16).await;
    assert!(matches!(still.next().await, RingItem::Behind));
    assert!(ring.follow(LogPosition::START).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_comes_later_continues_where_it_is() {
    let ring = Ring::new(LogPosition::START);
    let mut parser = Parser::resume(LogPosition::START);
    write(&ring, &mut parser, 2, 10).await;
    let position = parser.position();
    write(&ring, &mut parser, 1, 20).await;
    let cursor = ring.follow(position).unwrap();
    assert_eq!(text(&cursor).await.unwrap().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_waits_is_woken() {
    let ring = Ring::new(LogPosition::START);
    let cursor = ring.follow(LogPosition::START).unwrap();
    let waiting = tokio::spawn(async move { text(&cursor).await });
    tokio::task::yield_now().await;
    write(&ring, &mut Parser::resume(LogPosition::START), 1, 5).await;
    assert_eq!(waiting.await.unwrap().unwrap().len(), 6);
}
