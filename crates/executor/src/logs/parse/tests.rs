//! Logs pass through unchanged, however the response is split and wherever the connection breaks.

use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::{LineStyle, LogPosition, MAX_WHOLE_LINE, Parser};

/// The lines as Kubernetes sends them with timestamps, from `since` on.
fn upstream(lines: &[(Timestamp, Vec<u8>)], since: Option<Timestamp>) -> Vec<u8> {
    let mut sent = Vec::new();
    for (time, line) in lines {
        if since.is_none_or(|since| *time >= since) {
            sent.extend_from_slice(format!("{time:.9} ").as_bytes());
            sent.extend_from_slice(line);
        }
    }
    sent
}

/// Reads a log in pieces, and reconnects after each piece that is marked with `true`. Returns what a user would see.
fn read(lines: &[(Timestamp, Vec<u8>)], pieces: &[(usize, bool)], style: &LineStyle) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut position = LogPosition::START;
    let mut pieces = pieces.iter();
    'connection: loop {
        let sent = upstream(lines, position.resume_time());
        let mut parser = Parser::resume(position);
        let mut rest = sent.as_slice();
        while !rest.is_empty() {
            let (size, breaks) = pieces.next().copied().unwrap_or((usize::MAX, false));
            let (piece, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            if let Some(chunk) = parser.push(piece, style).unwrap() {
                seen.extend_from_slice(&chunk.common(LogPosition::START, style));
                assert_eq!(chunk.after(), parser.position());
            }
            position = parser.position();
            if breaks {
                continue 'connection;
            }
        }
        if let Some(chunk) = parser.finish(style).unwrap() {
            seen.extend_from_slice(&chunk.common(LogPosition::START, style));
        }
        return seen;
    }
}

fn start() -> Timestamp {
    "2026-11-23T15:30:34.5Z".parse().unwrap()
}

#[test]
fn bytes_pass_unchanged() {
    let lines: Vec<(Timestamp, Vec<u8>)> = [&b"\n"[..], b"\xff\xfe[/]\x1b[31m\r\n", b"last"]
        .iter()
        .map(|line| (start(), line.to_vec()))
        .collect();
    assert_eq!(
        read(&lines, &[], &LineStyle::default()),
        b"\n\xff\xfe[/]\x1b[31m\r\nlast"
    );
}

#[test]
fn a_line_longer_than_the_limit_arrives_in_parts_and_whole() {
    let long = [vec![b'x'; MAX_WHOLE_LINE * 3], b"\n".to_vec()].concat();
    let lines = [(start(), long.clone()), (start(), b"next\n".to_vec())];
    let style = LineStyle {
        prefix: "node-0 | ".to_owned(),
        timestamps: false,
    };
    let pieces = vec![(MAX_WHOLE_LINE / 2 + 7, false); 20];
    let expected = [b"node-0 | ".to_vec(), long, b"node-0 | next\n".to_vec()].concat();
    assert_eq!(read(&lines, &pieces, &style), expected);
}

#[test]
fn a_connection_that_breaks_within_a_long_line_continues_there() {
    let long = [
        (0..=MAX_WHOLE_LINE * 2)
            .map(|index| b'a' + (index % 26) as u8)
            .collect(),
        b"\n".to_vec(),
    ]
    .concat();
    let lines = [(start(), b"first\n".to_vec()), (start(), long.clone())];
    let pieces = [(MAX_WHOLE_LINE + 100, true)];
    let expected = [b"first\n".to_vec(), long].concat();
    assert_eq!(read(&lines, &pieces, &LineStyle::default()), expected);
}

#[test]
fn times_are_written_where_they_are_asked_for() {
    let style = LineStyle {
        prefix: "node-1 | ".to_owned(),
        timestamps: true,
    };
    let seen = read(&[(start(), b"a\n".to_vec())], &[], &style);
    assert_eq!(seen, b"node-1 | 2026-11-23T15:30:34.500000000Z a\n");
}

#[test]
fn an_error_of_the_kubelet_is_not_taken_for_the_log() {
    let mut parser = Parser::resume(LogPosition::START);
    let answer = parser.push(
        b"failed to create fsnotify watcher: too many open files\n",
        &LineStyle::default(),
    );
    assert!(answer.is_err());
}

#[test]
fn the_rest_of_an_older_line_is_dropped() {
    let mut parser = Parser::resume(LogPosition::since(start()));
    let answer = parser.push(b"rest of a line\n2026-11-23T15:30:35Z new\n", &LineStyle::default());
    assert_eq!(
        &answer
            .unwrap()
            .unwrap()
            .common(LogPosition::START, &LineStyle::default())[..],
        b"new\n"
    );
}

#[test]
fn a_follower_that_knows_a_part_of_a_chunk_gets_the_rest() {
    let mut parser = Parser::resume(LogPosition::START);
    let style = LineStyle::default();
    let first = parser.push(b"2026-11-23T15:30:35Z one\n", &style).unwrap().unwrap();
    let known = first.after();
    let mut parser = Parser::resume(LogPosition::START);
    let both = parser
        .push(b"2026-11-23T15:30:35Z one\n2026-11-23T15:30:35Z two\n", &style)
        .unwrap()
        .unwrap();
    assert_eq!(&both.common(known, &style)[..], b"two\n");
}

proptest! {
    /// Arbitrary lines, times that stand still or go back a little, and arbitrary pieces and breaks.
    #[test]
    fn no_line_is_lost_doubled_or_changed(
        lines in prop::collection::vec((-200_i64..900, prop::collection::vec(any::<u8>(), 0..20)), 0..30),
        pieces in prop::collection::vec((1_usize..200, any::<bool>()), 0..60),
    ) {
        // Times go back by less than a second in total, because a resume starts at a whole second.
        let mut latest = start();
        let lines: Vec<(Timestamp, Vec<u8>)> = lines
            .into_iter()
            .map(|(step, mut line)| {
                line.retain(|byte| *byte != b'\n');
                line.push(b'\n');
                let time = latest + step.milliseconds();
                // Stdout and stderr are out of order only within the second at which a resume starts.
                let time = if time.as_second() < latest.as_second() { latest } else { time };
                latest = latest.max(time);
                (time, line)
            })
            .collect();
        let expected: Vec<u8> = lines.iter().flat_map(|(_, line)| line.clone()).collect();
        prop_assert_eq!(read(&lines, &pieces, &LineStyle::default()), expected);
    }
}
