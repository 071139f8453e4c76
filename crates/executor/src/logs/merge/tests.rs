//! Lines of several nodes never mix.

use bytes::Bytes;
use futures::{StreamExt, stream};
use proptest::prelude::*;

use super::{LogPiece, LogTruncated, MergedLog, Node};

/// A node that writes these pieces, each after a pause in milliseconds.
fn node(pieces: Vec<(u64, &'static str)>) -> Node {
    let pieces = stream::iter(pieces).then(|(pause, text)| async move {
        if pause > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
        Ok(LogPiece {
            text: Bytes::from_static(text.as_bytes()),
            is_open: !text.ends_with('\n'),
            begins: false,
        })
    });
    Box::pin(pieces)
}

async fn merged(nodes: Vec<Node>) -> String {
    let pieces: Vec<_> = MergedLog::new(nodes).collect().await;
    pieces
        .into_iter()
        .map(|piece| String::from_utf8_lossy(&piece.unwrap()).into_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_line_in_parts_is_not_torn() {
    let slow = node(vec![(0, "a"), (500, "b"), (500, "c\n")]);
    let quick = node(vec![(1, "1\n"), (100, "2\n"), (100, "3\n")]);
    assert_eq!(merged(vec![slow, quick]).await, "abc\n1\n2\n3\n");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_does_not_go_on_is_broken_for_the_others() {
    let stuck = node(vec![(0, "a"), (60_000, "b\n")]);
    let other = node(vec![(1, "1\n")]);
    assert_eq!(merged(vec![stuck, other]).await, "a\n1\nb\n");
}

#[tokio::test(start_paused = true)]
async fn a_last_line_without_newline_is_ended_only_when_another_follows() {
    assert_eq!(merged(vec![node(vec![(0, "end")])]).await, "end");
    let other = node(vec![(10, "1\n")]);
    assert_eq!(merged(vec![node(vec![(0, "end")]), other]).await, "end\n1\n");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_ends_all_with_an_error() {
    let cut = LogTruncated {
        node: 1,
        reason: "pods is forbidden".into(),
    };
    let broken = stream::iter([Err(cut.clone())]).boxed();
    let pieces: Vec<_> = MergedLog::new([node(vec![(0, "1\n"), (10, "2\n")]), broken])
        .collect()
        .await;
    assert_eq!(pieces, [Ok(Bytes::from_static(b"1\n")), Err(cut)]);
}

proptest! {
    /// Whatever the pauses, each line of the output is a line of one node, and each node's lines keep their order.
    #[test]
    fn the_output_is_an_interleaving_of_whole_lines(pauses in prop::collection::vec(0_u64..50, 12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let output = runtime.block_on(async {
            let texts = [["a1 ", "x\n", "a2\n", "a3\n"], ["b1\n", "b2 ", "y", "\n"], ["c1\n", "c2\n", "c3\n", "c4\n"]];
            let mut pauses = pauses.into_iter();
            let nodes = texts
                .map(|texts| node(texts.into_iter().map(|text| (pauses.next().unwrap_or(0), text)).collect()));
            merged(nodes.into()).await
        });
        for (prefix, expected) in [('a', "a1 x,a2,a3"), ('b', "b1,b2 y"), ('c', "c1,c2,c3,c4")] {
            let lines: Vec<&str> = output.lines().filter(|line| line.starts_with(prefix)).collect();
            prop_assert_eq!(lines.join(","), expected);
        }
        prop_assert_eq!(output.lines().count(), 9);
    }
}
