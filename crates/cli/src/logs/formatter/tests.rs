//! What a task wrote comes out unchanged, and no line is lost or doubled wherever the connection breaks.

use proptest::prelude::*;

use super::{LineStyle, LogFormatter};

/// A line as the server sends it.
#[derive(Debug, Clone)]
struct Line {
    node: u32,
    second: u32,
    content: Vec<u8>,
}

fn time(second: u32) -> String {
    format!("2026-11-24T10:00:{second:02}.000000000Z")
}

/// The response of the server for `since`.
fn response(lines: &[Line], since: Option<&str>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let time = time(line.second);
        if since.is_some_and(|since| time.as_str() < since) {
            continue;
        }
        bytes.extend_from_slice(format!("node-{} | {time} ", line.node).as_bytes());
        bytes.extend_from_slice(&line.content);
        bytes.push(b'\n');
    }
    bytes
}

/// The printed lines of one node.
fn of_node(printed: &[u8], node: u32) -> Vec<Vec<u8>> {
    let prefix = format!("node-{node} | ").into_bytes();
    let lines = printed.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter_map(|line| line.strip_prefix(prefix.as_slice()).map(<[u8]>::to_vec))
        .collect()
}

fn log() -> impl Strategy<Value = Vec<Line>> {
    let line = (0_u32..3, 0_u32..2, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(node, step, content)| {
        let content = content
            .into_iter()
            .map(|byte| if byte == b'\n' { b' ' } else { byte })
            .collect();
        Line {
            node,
            second: step,
            content,
        }
    });
    prop::collection::vec(line, 1..30).prop_map(|mut lines| {
        // The times of a node never go back.
        let mut latest = [0; 3];
        for line in &mut lines {
            let latest = &mut latest[line.node as usize];
            *latest += line.second;
            line.second = *latest;
        }
        lines
    })
}

#[test]
fn content_comes_out_as_it_went_in() {
    let style = LineStyle::default();
    let mut formatter = LogFormatter::new(style);
    let mut out = Vec::new();
    let content = b"\x1b[1m[/] \xff\0 2026-11-24T10:00:00.0Z \r";
    for chunk in [b"2026-11-24T10:00:00.000000001Z ".as_slice(), content, b"\n"] {
        formatter.format(chunk, &mut out);
    }
    assert_eq!(out, [content.as_slice(), b"\n"].concat());
}

#[test]
fn the_rest_of_a_broken_line_is_not_lost() {
    let mut formatter = LogFormatter::new(LineStyle {
        has_nodes: true,
        ..LineStyle::default()
    });
    let mut out = Vec::new();
    formatter.format(
        b"node-0 | 2026-11-24T10:00:00.000000001Z long\nthe rest\nnode-1 | 2026-11-24T10:00:00.000000001Z b\n",
        &mut out,
    );
    assert_eq!(out, b"node-0 | long\nthe rest\nnode-1 | b\n");
}

/// Found by `cargo xtask fuzz log_lines`.
#[test]
fn the_header_of_the_next_line_is_not_that_of_a_continuation() {
    let style = LineStyle {
        has_nodes: true,
        ..LineStyle::default()
    };
    let log = b"node-7 the rest of a long line\nnode-0 | 2026-11-24T10:00:00.000000000Z next\n";
    for size in 1..=log.len() {
        let (mut formatter, mut out) = (LogFormatter::new(style), Vec::new());
        for piece in log.chunks(size) {
            formatter.format(piece, &mut out);
        }
        formatter.flush(&mut out);
        let expected = "node-7 the rest of a long line\nnode-0 | next\n";
        assert_eq!(String::from_utf8_lossy(&out), expected, "in pieces of {size}");
    }
}

#[test]
fn attempts_are_told_apart() {
    let mut formatter = LogFormatter::new(LineStyle::default());
    let mut out = Vec::new();
    let response = b"2026-11-24T10:00:00.000000001Z a\nattempt-2 | 2026-11-24T10:00:00.000000001Z b\n";
    formatter.format(response, &mut out);
    assert_eq!(formatter.reconnect(1).unwrap(), "2026-11-24T10:00:00.000000001Z");
    formatter.format(response, &mut out);
    formatter.format(b"attempt-2 | 2026-11-24T10:00:00.000000001Z c\n", &mut out);
    assert_eq!(out, b"a\nattempt-2 | b\nattempt-2 | c\n");
}

#[test]
fn a_node_that_has_said_nothing_is_asked_for_from_its_beginning() {
    let mut formatter = LogFormatter::new(LineStyle {
        has_nodes: true,
        ..LineStyle::default()
    });
    formatter.format(b"node-0 | 2026-11-24T10:00:05.000000000Z a\n", &mut Vec::new());
    assert_eq!(formatter.reconnect(2), None);
    formatter.format(b"node-1 | 2026-11-24T10:00:03.000000000Z a\n", &mut Vec::new());
    assert_eq!(formatter.reconnect(2).unwrap(), "2026-11-24T10:00:03.000000000Z");
}

proptest! {
    /// No matter how responses are split into chunks and where connections break, each line is printed once and in
    /// order.
    #[test]
    fn no_line_is_lost_or_doubled_by_a_lost_connection(
        log in log(),
        cuts in prop::collection::vec((0.0..1.0_f64, 1_usize..40), 0..4),
    ) {
        let mut formatter = LogFormatter::new(LineStyle { has_nodes: true, ..LineStyle::default() });
        let mut out = Vec::new();
        let mut since: Option<String> = None;
        let breaks = cuts.into_iter().chain([(1.0, 1)]);
        for (share, piece) in breaks {
            let bytes = response(&log, since.as_deref());
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
            let end = (bytes.len() as f64 * share) as usize;
            for chunk in bytes[..end].chunks(piece) {
                formatter.format(chunk, &mut out);
            }
            since = formatter.reconnect(3);
        }
        for node in 0..3 {
            let expected: Vec<Vec<u8>> = log
                .iter()
                .filter(|line| line.node == node)
                .map(|line| [line.content.as_slice(), b"\n"].concat())
                .collect();
            let printed = out.split(|byte| *byte == b'\n').count() - 1;
            prop_assert_eq!(printed, log.len());
            prop_assert_eq!(of_node(&out, node), expected);
        }
    }
}
