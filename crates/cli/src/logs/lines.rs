//! The server's stream, taken apart into lines, and put together as the person wants it.
//!
//! ```text
//! node-1 | 2026-11-24T10:00:00.123456789Z what the task wrote
//! └─ node ┘ └─────── time ─────────────┘ └──── content ─────┘
//! ```

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};

use super::position::{Known, Position};

/// The longest beginning of a line that can be a node and a time.
const MAX_HEADER_BYTES: usize = 64;

/// How much of a line of one of several nodes is held back until its end is there, so that a connection that breaks within
/// it leaves no half of it behind which another node's line could follow.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// Colours of nodes, in turn.
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Red,
];

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineStyle {
    /// Whether the server puts the node before each line.
    pub has_nodes: bool,
    /// Whether the person wants the time.
    pub timestamps: bool,
    /// Whether nodes have colours.
    pub color: bool,
}

/// Takes apart what arrives. Content is passed on as it is, however long its lines are.
#[derive(Debug)]
pub struct Lines {
    style: LineStyle,
    /// Where each node's log has been read to, over all connections.
    read: BTreeMap<u32, Position>,
    /// Where each node's log is in this answer.
    here: BTreeMap<u32, Position>,
    stage: Stage,
    /// The beginning of the line, held back; `None` when it is written as it comes.
    held: Option<Vec<u8>>,
    /// What was written last is no end of a line.
    is_open: bool,
}

#[derive(Debug)]
enum Stage {
    /// At the beginning of a line; this much of it has arrived.
    Header(Vec<u8>),
    /// Within the content of a line of this node, of which so many bytes are known.
    Content { node: u32, known: Known },
    /// Within the rest of a line that the server has broken.
    Rest,
}

/// The beginning of a line.
struct Header<'a> {
    prefix: &'a [u8],
    node: u32,
    time: &'a [u8],
    length: usize,
}

impl Lines {
    /// Before the first byte.
    pub fn new(style: LineStyle) -> Self {
        Self {
            style,
            read: BTreeMap::new(),
            here: BTreeMap::new(),
            stage: Stage::Header(Vec::new()),
            held: None,
            is_open: false,
        }
    }

    /// Begins with another answer; gives the time from which it must be asked for, if not from the beginning.
    pub fn reconnect(&mut self, nodes: u32) -> Option<String> {
        self.here.clear();
        self.held = None;
        self.stage = Stage::Header(Vec::new());
        // Of a node that has said nothing yet, nothing may be left out.
        if self.read.len() < usize::try_from(nodes).unwrap_or(usize::MAX) {
            return None;
        }
        let earliest = self.read.values().map(Position::time).min()?;
        String::from_utf8(earliest.to_vec()).ok()
    }

    /// Whether anything has arrived.
    pub fn has_begun(&self) -> bool {
        !self.read.is_empty()
    }

    /// Writes what was held back: no more will come of a line that has no end.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            out.extend_from_slice(&held);
        }
    }

    /// Takes bytes from the server, and writes what the person shall see.
    pub fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let taken = match &mut self.stage {
                Stage::Header(begun) => {
                    let before = begun.len();
                    let missing = MAX_HEADER_BYTES - before;
                    begun.extend_from_slice(&bytes[..bytes.len().min(missing)]);
                    let begun = std::mem::take(begun);
                    self.header(begun, before, bytes.len(), out)
                }
                Stage::Content { node, known } => {
                    let (node, known) = (*node, *known);
                    self.content(node, known, bytes, out)
                }
                Stage::Rest => {
                    let end = line_end(bytes);
                    self.write(&bytes[..end.unwrap_or(bytes.len())], out);
                    if end.is_some() {
                        self.stage = Stage::Header(Vec::new());
                    }
                    end.unwrap_or(bytes.len())
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// Reads the beginning of a line; gives how many of the new bytes belong to it.
    fn header(&mut self, begun: Vec<u8>, before: usize, arrived: usize, out: &mut Vec<u8>) -> usize {
        let new = begun.len() - before;
        match parse(&begun, self.style.has_nodes) {
            Some(header) => {
                let here = self.here.entry(header.node).or_default();
                here.next_line(header.time);
                let known = self
                    .read
                    .get(&header.node)
                    .map_or(Known::Nothing, |read| read.knows(here));
                if known == Known::Nothing {
                    if self.is_open {
                        // The rest of the line that broke off is gone.
                        self.write(b"\n", out);
                    }
                    let mut written = Vec::new();
                    write_header(&header, self.style, &mut written);
                    if self.style.has_nodes {
                        self.held = Some(written);
                    } else {
                        self.write(&written, out);
                    }
                }
                self.stage = Stage::Content {
                    node: header.node,
                    known,
                };
                header.length - before
            }
            None if begun.len() < MAX_HEADER_BYTES && new == arrived && !begun.contains(&b'\n') => {
                self.stage = Stage::Header(begun);
                new
            }
            None => {
                // A very long line that paused was broken for the sake of the others; this is how it goes on.
                let end = line_end(&begun).unwrap_or(begun.len());
                self.write(&begun[..end], out);
                self.stage = if begun[..end].ends_with(b"\n") {
                    Stage::Header(Vec::new())
                } else {
                    Stage::Rest
                };
                end.saturating_sub(before)
            }
        }
    }

    fn content(&mut self, node: u32, known: Known, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let end = line_end(bytes);
        let taken = end.unwrap_or(bytes.len());
        let here = self.here.entry(node).or_default();
        let before = here.clone();
        here.read(taken as u64, end.is_some());
        let skipped = match known {
            Known::All => taken,
            Known::Nothing => 0,
            Known::Part(part) => usize::try_from(part.saturating_sub(before.bytes_read()))
                .unwrap_or(taken)
                .min(taken),
        };
        let here = here.clone();
        let is_whole = end.is_some();
        if is_whole {
            self.stage = Stage::Header(Vec::new());
        }
        if skipped == taken && known != Known::Nothing {
            return taken;
        }
        match &mut self.held {
            Some(held) => {
                held.extend_from_slice(&bytes[skipped..taken]);
                if !is_whole && held.len() < MAX_HELD_BYTES {
                    return taken;
                }
                let held = self.held.take().unwrap_or_default();
                self.write(&held, out);
            }
            None => self.write(&bytes[skipped..taken], out),
        }
        self.read.insert(node, here);
        taken
    }

    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Some(last) = bytes.last() {
            out.extend_from_slice(bytes);
            self.is_open = *last != b'\n';
        }
    }
}

/// Where the first line ends, its newline included.
fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes).map(|index| index + 1)
}

fn parse(line: &[u8], has_nodes: bool) -> Option<Header<'_>> {
    let (node, prefix) = if has_nodes {
        let end = line.windows(3).position(|window| window == b" | ")? + 3;
        let rank = line[..end - 3].strip_prefix(b"node-")?;
        (std::str::from_utf8(rank).ok()?.parse().ok()?, end)
    } else {
        (0, 0)
    };
    let time_end = line[prefix..].iter().position(|byte| *byte == b' ')? + prefix;
    let time = &line[prefix..time_end];
    if time.last() != Some(&b'Z') || !time.first()?.is_ascii_digit() {
        return None;
    }
    Some(Header {
        prefix: &line[..prefix],
        node,
        time,
        length: time_end + 1,
    })
}

fn write_header(header: &Header<'_>, style: LineStyle, out: &mut Vec<u8>) {
    if style.color && !header.prefix.is_empty() {
        let color = COLORS[header.node as usize % COLORS.len()];
        let style = Style::new().fg_color(Some(color.into()));
        let text = String::from_utf8_lossy(header.prefix);
        out.extend_from_slice(format!("{style}{text}{style:#}").as_bytes());
    } else {
        out.extend_from_slice(header.prefix);
    }
    if style.timestamps {
        out.extend_from_slice(header.time);
        out.push(b' ');
    }
}

#[cfg(test)]
mod tests;
