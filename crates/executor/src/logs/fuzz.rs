//! A log with times, as the kubelet sends it, and whatever a task makes of it.

use super::chunk::Style;
use super::parse::{NotALog, Parser};
use super::position::Position;

/// Where the pieces of an answer end changes nothing of what is passed on.
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
    let style = Style::default();
    let mut parser = Parser::resume(Position::START);
    let mut seen = Vec::new();
    let chunks = log
        .chunks(size)
        .map(|piece| parser.push(piece, &style))
        .collect::<Vec<_>>();
    for chunk in chunks.into_iter().chain([parser.finish(&style)]) {
        let Some(chunk) = chunk? else { continue };
        // A follower that comes back to where a chunk begins, or ends, sees all of it, or nothing.
        let all = chunk.write(chunk.before, &style);
        assert_eq!(all, chunk.write(Position::START, &style));
        assert!(chunk.write(chunk.after(), &style).is_empty());
        seen.extend_from_slice(&all);
    }
    Ok(seen)
}
