//! Followers get every chunk in order, or notice that they are behind.

use bytes::Bytes;

use super::super::chunk::Style;
use super::super::parse::Parser;
use super::super::position::Position;
use super::{CAPACITY, Cursor, Next, Ring};

/// Writes `count` lines of `size` bytes into the ring.
async fn write(ring: &Ring, parser: &mut Parser, count: usize, size: usize) {
    for _ in 0..count {
        let line = format!("2026-11-23T15:30:35Z {}\n", "x".repeat(size));
        let chunk = parser.push(line.as_bytes(), &Style::default()).unwrap().unwrap();
        ring.push(chunk).await;
    }
}

async fn text(cursor: &Cursor) -> Option<Bytes> {
    match cursor.next().await {
        Next::Chunk(chunk) => Some(chunk.common(Position::START, &Style::default())),
        Next::Behind | Next::Closed | Next::Cut(_) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn every_follower_gets_every_chunk_and_the_end() {
    let ring = Ring::new(Position::START);
    let cursors: Vec<Cursor> = (0..3).filter_map(|_| ring.follow(Position::START)).collect();
    write(&ring, &mut Parser::resume(Position::START), 4, 10).await;
    ring.close(Ok(()));
    for cursor in &cursors {
        for _ in 0..4 {
            assert_eq!(text(cursor).await.unwrap().len(), 11);
        }
        assert!(matches!(cursor.next().await, Next::Closed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_stands_still_falls_behind_and_keeps_nobody() {
    let ring = Ring::new(Position::START);
    let still = ring.follow(Position::START).unwrap();
    write(&ring, &mut Parser::resume(Position::START), 40, CAPACITY / 16).await;
    assert!(matches!(still.next().await, Next::Behind));
    assert!(ring.follow(Position::START).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_comes_later_continues_where_it_is() {
    let ring = Ring::new(Position::START);
    let mut parser = Parser::resume(Position::START);
    write(&ring, &mut parser, 2, 10).await;
    let position = parser.position();
    write(&ring, &mut parser, 1, 20).await;
    let cursor = ring.follow(position).unwrap();
    assert_eq!(text(&cursor).await.unwrap().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_waits_is_woken() {
    let ring = Ring::new(Position::START);
    let cursor = ring.follow(Position::START).unwrap();
    let waiting = tokio::spawn(async move { text(&cursor).await });
    tokio::task::yield_now().await;
    write(&ring, &mut Parser::resume(Position::START), 1, 5).await;
    assert_eq!(waiting.await.unwrap().unwrap().len(), 6);
}
