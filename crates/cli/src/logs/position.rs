//! A place in the log of a node, that can be found again in another answer.

/// The place behind some line, or within it.
///
/// The server shows for each line the latest time of any line so far, which never goes back. So a line is known by that
/// time and by how many lines have had it, whatever part of the log an answer begins with.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// The latest time, as the server writes it: in UTC with nine digits, so that texts compare as times do.
    time: Vec<u8>,
    /// How many lines have had it.
    lines: u64,
    /// How many bytes of the last line have been read.
    bytes: u64,
    /// Whether all of it has.
    is_whole: bool,
}

/// What to do with a line that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was read before, all of it.
    All,
    /// So many bytes of it were.
    Part(u64),
    /// It is new.
    Nothing,
}

impl Clone for Position {
    fn clone(&self) -> Self {
        Self {
            time: self.time.clone(),
            ..*self
        }
    }

    /// Once for each line, so without an allocation.
    fn clone_from(&mut self, other: &Self) {
        self.time.clone_from(&other.time);
        self.lines = other.lines;
        self.bytes = other.bytes;
        self.is_whole = other.is_whole;
    }
}

impl Position {
    /// The place before the next line, which has this time.
    pub fn next_line(&mut self, time: &[u8]) {
        if time > self.time.as_slice() {
            self.time.clear();
            self.time.extend_from_slice(time);
            self.lines = 1;
        } else {
            self.lines += 1;
        }
        self.bytes = 0;
        self.is_whole = false;
    }

    /// Moves on within the line.
    pub fn read(&mut self, bytes: u64, to_the_end: bool) {
        self.bytes += bytes;
        self.is_whole = to_the_end;
    }

    /// How much of the line at `other` was read before this place.
    pub fn knows(&self, other: &Self) -> Known {
        match (&other.time, other.lines).cmp(&(&self.time, self.lines)) {
            std::cmp::Ordering::Less => Known::All,
            std::cmp::Ordering::Equal if self.is_whole => Known::All,
            std::cmp::Ordering::Equal => Known::Part(self.bytes),
            std::cmp::Ordering::Greater => Known::Nothing,
        }
    }

    /// How many bytes of the last line have been read.
    pub fn bytes_read(&self) -> u64 {
        self.bytes
    }

    /// From when the log must be asked for to go on here.
    pub fn time(&self) -> &[u8] {
        &self.time
    }
}
