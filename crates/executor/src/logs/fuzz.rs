//! Fuzz target for logs with arbitrary content.

use super::chunk::LineStyle;
use super::parse::{NotALog, Parser};
use super::position::LogPosition;

/// Checks that the output does not depend on how the response is split into pieces.
pub fn frames(data: &[u8]) {
    let Some((size, log)) = data.split_first() else { return };
    let whole = read(log, log.len().max(1));
    let pieces = read(log, usize::from(*size).max(1));
    match (whole, pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "in pieces of {size}"),
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("{whole:?} became {pieces:?} in pieces of {size}"),
    }
}

fn read(log: &[u8], size: usize) -> Result<Vec<u8>, NotALog> {
    let style = LineStyle::default();
    let mut parser = Parser::resume(LogPosition::START);
    let mut seen = Vec::new();
    let chunks = log
        .chunks(size)
        .map(|piece| parser.push(piece, &style))
        .collect::<Vec<_>>();
    for chunk in chunks.into_iter().chain([parser.finish(&style)]) {
        let Some(chunk) = chunk? else { continue };
        // A follower that resumes at the start of a chunk sees all of it, and one that resumes at the end sees nothing.
        let all = chunk.write(chunk.before, &style);
        assert_eq!(all, chunk.write(LogPosition::START, &style));
        assert!(chunk.write(chunk.after(), &style).is_empty());
        seen.extend_from_slice(&all);
    }
    Ok(seen)
}
