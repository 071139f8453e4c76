//! What must hold for whatever a task file holds, and whatever a server sends. The targets of `fuzz/` look for inputs that break it.

use crate::logs::{LineStyle, Lines};
use crate::task_file::TaskFile;

/// A task file: it is read, or what is wrong is told at its place.
pub fn task_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let told = match TaskFile::parse("task.yaml".to_owned(), text.to_owned()) {
        Ok(mut task) => task.check().err(),
        Err(error) => Some(error),
    };
    if let Some(error) = told {
        assert!(!error.to_string().is_empty(), "refused without a reason");
    }
}

/// A log from the server: where its pieces end changes nothing of what is written.
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
        written(style, log, log.len().max(1)),
        written(style, log, usize::from(*size).max(1)),
        "in pieces of {size}"
    );
}

fn written(style: LineStyle, log: &[u8], size: usize) -> Vec<u8> {
    let (mut lines, mut out) = (Lines::new(style), Vec::new());
    for piece in log.chunks(size) {
        lines.take(piece, &mut out);
    }
    lines.finish(&mut out);
    out
}
