//! Properties that must hold for every task file and every log, checked by the targets in `fuzz/`.

use crate::logs::{LineStyle, LogFormatter};
use crate::task_file::{Overrides, SweepArgs, TaskSet};

/// Parses and checks a task file: it must not panic, and an error must have a message.
pub fn task_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = TaskSet::parse("task.yaml".to_owned(), text, None);
    let parsed = parsed.and_then(|tasks| tasks.apply(&Overrides::default(), &SweepArgs::default()));
    let error = match parsed {
        Ok(tasks) => tasks.validate().err(),
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        assert!(!error.to_string().is_empty(), "error without a message");
    }
}

/// Prints a log in chunks: the output must not depend on where the chunks end.
pub fn log_lines(data: &[u8]) {
    let Some(([size, style], log)) = data.split_first_chunk() else {
        return;
    };
    let style = LineStyle {
        has_nodes: style & 1 != 0,
        timestamps: style & 2 != 0,
        color: style & 4 != 0,
    };
    assert_eq!(
        formatted(style, log, log.len().max(1)),
        formatted(style, log, usize::from(*size).max(1)),
        "in chunks of {size}"
    );
}

fn formatted(style: LineStyle, log: &[u8], size: usize) -> Vec<u8> {
    let (mut formatter, mut out) = (LogFormatter::new(style), Vec::new());
    for piece in log.chunks(size) {
        formatter.format(piece, &mut out);
    }
    formatter.flush(&mut out);
    out
}
