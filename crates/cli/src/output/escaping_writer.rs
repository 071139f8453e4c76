//! A writer for terminals: escapes what would control one.

use std::io::{self, Write};

use escape::escape_controls;

/// How much of a line is held back until it is complete.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Writes whole lines with their control characters escaped, and what is not UTF-8 replaced.
#[derive(Debug)]
pub(crate) struct EscapingWriter<W> {
    inner: W,
    line: Vec<u8>,
}

impl<W: Write> EscapingWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            line: Vec::new(),
        }
    }

    fn write_line(&mut self) -> io::Result<()> {
        let text = escape_controls(&String::from_utf8_lossy(&self.line));
        self.line.clear();
        self.inner.write_all(text.as_bytes())
    }
}

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() > MAX_LINE_BYTES {
                self.write_line()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_line()?;
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::EscapingWriter;

    #[test]
    fn a_name_that_arrives_in_parts_does_not_control_a_terminal() {
        let mut written = Vec::new();
        let mut writer = EscapingWriter::new(&mut written);
        for part in ["\u{fc}\u{1b}".as_bytes(), b"]0;x\x07\nb\xff", b"\xc3", b"\xbc\r\nlast"] {
            writer.write_all(part).unwrap();
        }
        writer.flush().unwrap();
        let expected = "\u{fc}\\u001b]0;x\\u0007\nb\u{fffd}\u{fc}\\u000d\nlast";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
