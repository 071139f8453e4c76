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

use super::position::{LogPosition, Overlap};

/// Maximum length of prefix and time. A line without a header within this limit is a continuation.
const MAX_HEADER_BYTES: usize = 64;

/// How much of a line to hold back until it is complete, if there are several nodes. Otherwise, a connection that
/// breaks in the middle of a line would leave half of it, followed by a line of another node.
const MAX_BUFFERED_BYTES: usize = 64 * 1024;

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
pub(crate) struct LineStyle {
    /// Whether lines start with the node.
    pub has_nodes: bool,
    /// Whether to print timestamps.
    pub timestamps: bool,
    /// Whether to color prefixes.
    pub color: bool,
}

/// Streaming parser. Passes content through unchanged and with bounded memory, no matter how long lines are.
#[derive(Debug)]
pub(crate) struct LogFormatter {
    style: LineStyle,
    /// What each line starts with.
    prefix: String,
    /// The logs seen so far, one per prefix.
    logs: Vec<NodeLog>,
    /// Indices into `logs`.
    by_prefix: HashMap<Vec<u8>, usize>,
    state: LineState,
    /// The current line so far, if it is held back; `None` if it is written as it arrives.
    buffered: Option<Vec<u8>>,
    /// Whether the output does not end with a newline.
    is_open: bool,
}

/// The log of one attempt of one node.
#[derive(Debug)]
struct NodeLog {
    node: u32,
    /// The position up to which output was written, across connections; `None` before the first.
    printed: Option<LogPosition>,
    /// The position in the current response.
    current: LogPosition,
}

#[derive(Debug)]
enum LineState {
    /// At the start of a line; holds what has arrived of it.
    Header(Vec<u8>),
    /// Within the content of a line of this log, of which `overlap` was written before.
    Content { log: usize, overlap: Overlap },
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

impl LogFormatter {
    pub(crate) fn new(style: LineStyle) -> Self {
        Self {
            style,
            prefix: String::new(),
            logs: Vec::new(),
            by_prefix: HashMap::new(),
            state: LineState::Header(Vec::new()),
            buffered: None,
            is_open: false,
        }
    }

    /// Starts each line with the name of the task.
    pub(crate) fn with_prefix(self, name: Option<&str>) -> Self {
        let prefix = name.map(|name| format!("{name} | ")).unwrap_or_default();
        Self { prefix, ..self }
    }

    /// Prepares for another response; returns the time from which to request the log, or `None` for all of it.
    pub(crate) fn reconnect(&mut self, nodes: u32) -> Option<String> {
        self.buffered = None;
        self.state = LineState::Header(Vec::new());
        for log in &mut self.logs {
            log.current = LogPosition::default();
        }
        let printed_positions = || {
            self.logs
                .iter()
                .filter_map(|log| Some((log.node, log.printed.as_ref()?)))
        };
        // A node without output so far may have older lines, so request everything; known lines are skipped.
        let with_output: HashSet<u32> = printed_positions().map(|(node, _)| node).collect();
        if with_output.len() < usize::try_from(nodes).unwrap_or(usize::MAX) {
            return None;
        }
        let earliest = printed_positions().map(|(_, position)| position.time()).min()?;
        String::from_utf8(earliest.to_vec()).ok()
    }

    /// Whether any log line has been written.
    pub(crate) fn has_output(&self) -> bool {
        self.logs.iter().any(|log| log.printed.is_some())
    }

    /// Whether the output does not end with a newline.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Writes what was held back, at the end of the log.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some(buffered) = self.buffered.take() {
            self.write(&buffered, out);
        }
    }

    /// Processes bytes from the server and appends the output to `out`.
    pub(crate) fn format(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let consumed = match &mut self.state {
                LineState::Header(start) => {
                    let before = start.len();
                    let missing = MAX_HEADER_BYTES - before;
                    start.extend_from_slice(&bytes[..bytes.len().min(missing)]);
                    let start = std::mem::take(start);
                    self.format_header(start, before, bytes.len(), out)
                }
                LineState::Content { log, overlap } => {
                    let (log, overlap) = (*log, *overlap);
                    self.format_content(log, overlap, bytes, out)
                }
                LineState::Rest => {
                    let end = line_end(bytes);
                    self.write(&bytes[..end.unwrap_or(bytes.len())], out);
                    if end.is_some() {
                        self.state = LineState::Header(Vec::new());
                    }
                    end.unwrap_or(bytes.len())
                }
            };
            bytes = &bytes[consumed..];
        }
    }

    /// Parses the start of a line; returns how many of the new bytes were consumed.
    fn format_header(&mut self, start: Vec<u8>, before: usize, arrived: usize, out: &mut Vec<u8>) -> usize {
        let new = start.len() - before;
        match parse_header(&start, self.style.has_nodes) {
            Some(header) => {
                let log = match self.by_prefix.get(header.prefix) {
                    Some(log) => *log,
                    None => self.add_log(header.prefix, header.node),
                };
                let NodeLog { current, printed, .. } = &mut self.logs[log];
                current.next_line(header.time);
                let overlap = printed
                    .as_ref()
                    .map_or(Overlap::None, |printed| printed.overlap_with(current));
                if overlap == Overlap::None {
                    if self.is_open {
                        // The rest of an interrupted line is not coming.
                        self.write(b"\n", out);
                    }
                    let mut written = self.prefix.clone().into_bytes();
                    write_header(&header, self.style, &mut written);
                    if self.style.has_nodes {
                        self.buffered = Some(written);
                    } else {
                        self.write(&written, out);
                    }
                }
                self.state = LineState::Content { log, overlap };
                header.length - before
            }
            None if start.len() < MAX_HEADER_BYTES && new == arrived && !start.contains(&b'\n') => {
                self.state = LineState::Header(start);
                new
            }
            None => {
                // The server splits a very long line if it pauses, so that other nodes can go on. This is its
                // continuation.
                let end = line_end(&start).unwrap_or(start.len());
                self.write(&start[..end], out);
                self.state = if start[..end].ends_with(b"\n") {
                    LineState::Header(Vec::new())
                } else {
                    LineState::Rest
                };
                end.saturating_sub(before)
            }
        }
    }

    fn add_log(&mut self, prefix: &[u8], node: u32) -> usize {
        self.by_prefix.insert(prefix.to_vec(), self.logs.len());
        self.logs.push(NodeLog {
            node,
            printed: None,
            current: LogPosition::default(),
        });
        self.logs.len() - 1
    }

    fn format_content(&mut self, log: usize, overlap: Overlap, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let end = line_end(bytes);
        let consumed = end.unwrap_or(bytes.len());
        let current = &mut self.logs[log].current;
        let skipped = match overlap {
            Overlap::Full => consumed,
            Overlap::None => 0,
            Overlap::Partial(part) => {
                let missing = part.saturating_sub(current.bytes_read());
                usize::try_from(missing).unwrap_or(consumed).min(consumed)
            }
        };
        let is_whole = end.is_some();
        current.advance(consumed as u64, is_whole);
        if is_whole {
            self.state = LineState::Header(Vec::new());
        }
        if skipped == consumed && overlap != Overlap::None {
            return consumed;
        }
        match &mut self.buffered {
            Some(buffered) => {
                buffered.extend_from_slice(&bytes[skipped..consumed]);
                if !is_whole && buffered.len() < MAX_BUFFERED_BYTES {
                    return consumed;
                }
                let buffered = self.buffered.take().unwrap_or_default();
                self.write(&buffered, out);
            }
            None => self.write(&bytes[skipped..consumed], out),
        }
        let NodeLog { printed, current, .. } = &mut self.logs[log];
        match printed {
            // Reuses the allocation.
            Some(printed) => printed.clone_from(current),
            None => *printed = Some(current.clone()),
        }
        consumed
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
fn parse_header(lines: &[u8], has_nodes: bool) -> Option<Header<'_>> {
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
