//! Parses the log stream of the server into lines and formats them for output.
//!
//! ```text
//! node-1 | 2026-11-24T10:00:00.123456789Z what the task wrote
//! └prefix┘ └─────── time ─────────────┘ └──── content ─────┘
//! ```
//!
//! The prefix has the node, if there are several, and the attempt, if it is not the first: `node-1 attempt-2 | `.

use std::collections::{HashMap, HashSet};

use anstyle::{AnsiColor, Style};

use super::position::{Known, Position};

/// Maximum length of prefix and time. A line without a header within this limit is a continuation.
const MAX_HEADER_BYTES: usize = 64;

/// How much of a line to hold back until it is complete, if there are several nodes. Otherwise, a connection that
/// breaks in the middle of a line would leave half of it, followed by a line of another node.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// Colors of nodes, by rank.
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::Red,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LineStyle {
    /// Whether lines start with the node.
    pub has_nodes: bool,
    /// Whether to print timestamps.
    pub timestamps: bool,
    /// Whether to color prefixes.
    pub color: bool,
}

/// Streaming parser. Passes content through unchanged and with bounded memory, no matter how long lines are.
#[derive(Debug)]
pub struct Lines {
    style: LineStyle,
    /// The logs seen so far, one per prefix.
    logs: Vec<Log>,
    /// Indices into `logs`.
    by_prefix: HashMap<Vec<u8>, usize>,
    stage: Stage,
    /// The current line so far, if it is held back; `None` if it is written as it arrives.
    held: Option<Vec<u8>>,
    /// Whether the output does not end with a newline.
    is_open: bool,
}

/// The log of one attempt of one node.
#[derive(Debug)]
struct Log {
    node: u32,
    /// The position up to which output was written, across connections; `None` before the first.
    read: Option<Position>,
    /// The position in the current response.
    here: Position,
}

#[derive(Debug)]
enum Stage {
    /// At the start of a line; holds what has arrived of it.
    Header(Vec<u8>),
    /// Within the content of a line of this log, of which `known` was written before.
    Content { log: usize, known: Known },
    /// Within the continuation of a line that the server split.
    Rest,
}

/// Prefix and time at the start of a line.
struct Header<'a> {
    prefix: &'a [u8],
    node: u32,
    time: &'a [u8],
    length: usize,
}

impl Lines {
    pub fn new(style: LineStyle) -> Self {
        Self {
            style,
            logs: Vec::new(),
            by_prefix: HashMap::new(),
            stage: Stage::Header(Vec::new()),
            held: None,
            is_open: false,
        }
    }

    /// Prepares for another response; returns the time from which to request the log, or `None` for all of it.
    pub fn reconnect(&mut self, nodes: u32) -> Option<String> {
        self.held = None;
        self.stage = Stage::Header(Vec::new());
        for log in &mut self.logs {
            log.here = Position::default();
        }
        let begun = || self.logs.iter().filter_map(|log| Some((log.node, log.read.as_ref()?)));
        // A node without output so far may have older lines, so request everything; known lines are skipped.
        let spoken: HashSet<u32> = begun().map(|(node, _)| node).collect();
        if spoken.len() < usize::try_from(nodes).unwrap_or(usize::MAX) {
            return None;
        }
        let earliest = begun().map(|(_, read)| read.time()).min()?;
        String::from_utf8(earliest.to_vec()).ok()
    }

    /// Whether any log line has been written.
    pub fn has_begun(&self) -> bool {
        self.logs.iter().any(|log| log.read.is_some())
    }

    /// Whether the output does not end with a newline.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Writes what was held back, at the end of the log.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            self.write(&held, out);
        }
    }

    /// Processes bytes from the server and appends the output to `out`.
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
                Stage::Content { log, known } => {
                    let (log, known) = (*log, *known);
                    self.content(log, known, bytes, out)
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

    /// Parses the start of a line; returns how many of the new bytes were consumed.
    fn header(&mut self, begun: Vec<u8>, before: usize, arrived: usize, out: &mut Vec<u8>) -> usize {
        let new = begun.len() - before;
        match parse(&begun, self.style.has_nodes) {
            Some(header) => {
                let log = match self.by_prefix.get(header.prefix) {
                    Some(log) => *log,
                    None => self.begin(header.prefix, header.node),
                };
                let Log { here, read, .. } = &mut self.logs[log];
                here.next_line(header.time);
                let known = read.as_ref().map_or(Known::Nothing, |read| read.knows(here));
                if known == Known::Nothing {
                    if self.is_open {
                        // The rest of an interrupted line is not coming.
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
                self.stage = Stage::Content { log, known };
                header.length - before
            }
            None if begun.len() < MAX_HEADER_BYTES && new == arrived && !begun.contains(&b'\n') => {
                self.stage = Stage::Header(begun);
                new
            }
            None => {
                // The server splits a very long line if it pauses, so that other nodes can go on. This is its
                // continuation.
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

    fn begin(&mut self, prefix: &[u8], node: u32) -> usize {
        self.by_prefix.insert(prefix.to_vec(), self.logs.len());
        self.logs.push(Log {
            node,
            read: None,
            here: Position::default(),
        });
        self.logs.len() - 1
    }

    fn content(&mut self, log: usize, known: Known, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let end = line_end(bytes);
        let taken = end.unwrap_or(bytes.len());
        let here = &mut self.logs[log].here;
        let skipped = match known {
            Known::All => taken,
            Known::Nothing => 0,
            Known::Part(part) => {
                let missing = part.saturating_sub(here.bytes_read());
                usize::try_from(missing).unwrap_or(taken).min(taken)
            }
        };
        let is_whole = end.is_some();
        here.read(taken as u64, is_whole);
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
        let Log { read, here, .. } = &mut self.logs[log];
        match read {
            // Reuses the allocation.
            Some(read) => read.clone_from(here),
            None => *read = Some(here.clone()),
        }
        taken
    }

    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Some(last) = bytes.last() {
            out.extend_from_slice(bytes);
            self.is_open = *last != b'\n';
        }
    }
}

/// The length of the first line, including its newline.
fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes).map(|index| index + 1)
}

/// The header of the first of these lines. Only that line is searched: what follows is a line of its own, even if it
/// has arrived along with this one.
fn parse(lines: &[u8], has_nodes: bool) -> Option<Header<'_>> {
    let line = &lines[..line_end(lines).unwrap_or(lines.len())];
    let has_prefix = has_nodes || line.starts_with(b"attempt-");
    let prefix = match has_prefix {
        true => memchr::memmem::find(line, b" | ")? + 3,
        false => 0,
    };
    let node = match line[..prefix].strip_prefix(b"node-") {
        Some(rank) => {
            let digits = rank.iter().take_while(|byte| byte.is_ascii_digit()).count();
            std::str::from_utf8(&rank[..digits]).ok()?.parse().ok()?
        }
        None if has_nodes => return None,
        None => 0,
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
