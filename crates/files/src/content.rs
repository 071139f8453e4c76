//! A content: the bytes of a small file, or a piece of a large one.

use std::io::{self, Cursor, Read};

use fastcdc::v2020::StreamCDC;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::hash::ContentHash;

/// The largest content, in bytes. Two of them fit into a request that every proxy lets through.
pub const MAX_CONTENT: usize = 4 << 20;

/// The smallest piece of a file that is cut, in bytes; its last piece may be smaller.
pub const MIN_CONTENT: usize = 512 << 10;

const AVERAGE_CONTENT: usize = 2 << 20;

/// The name and the length of a content, which is 1 to [`MAX_CONTENT`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    hash: ContentHash,
    length: u32,
}

impl Content {
    /// The content with this name and length, or `None` if no content has this length.
    #[must_use]
    pub fn new(hash: ContentHash, length: u32) -> Option<Self> {
        (1..=MAX_CONTENT)
            .contains(&usize::try_from(length).ok()?)
            .then_some(Self { hash, length })
    }

    /// The content that has these bytes, or `None` if they are none or too many.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        // What is too long is not worth a hash.
        if bytes.is_empty() || bytes.len() > MAX_CONTENT {
            return None;
        }
        Self::new(ContentHash::of(bytes), u32::try_from(bytes.len()).ok()?)
    }

    /// Its name.
    #[must_use]
    pub fn hash(&self) -> &ContentHash {
        &self.hash
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Whether these are its bytes.
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        Self::of(bytes) == Some(*self)
    }
}

/// A content is written as `["HASH",LENGTH]`.
impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.hash, self.length).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (hash, length) = <(ContentHash, u32)>::deserialize(deserializer)?;
        Self::new(hash, length).ok_or_else(|| D::Error::custom(format!("a content has 1 to {MAX_CONTENT} bytes")))
    }
}

/// Splits what a reader gives into contents, and calls `each` for every one with its bytes, in order.
///
/// Up to [`MAX_CONTENT`] bytes are one content. More are cut where the bytes say, so that a change in the middle of a
/// large file leaves most of its contents as they were. At most about four contents are in memory.
///
/// # Errors
///
/// Those of the reader.
pub fn split(mut reader: impl Read, mut each: impl FnMut(Content, &[u8])) -> io::Result<()> {
    let mut start = Vec::new();
    reader.by_ref().take(MAX_CONTENT as u64 + 1).read_to_end(&mut start)?;
    if start.len() <= MAX_CONTENT {
        if let Some(content) = Content::of(&start) {
            each(content, &start);
        }
        return Ok(());
    }
    let whole = Cursor::new(start).chain(reader);
    for piece in StreamCDC::new(whole, MIN_CONTENT, AVERAGE_CONTENT, MAX_CONTENT) {
        let piece = piece?;
        let content = Content::of(&piece.data).ok_or_else(|| io::Error::other("a content has an impossible length"))?;
        each(content, &piece.data);
    }
    Ok(())
}

/// Why these cannot be the contents of a file: [`split`] would not have made them.
pub(crate) fn fault_of(contents: &[Content]) -> Option<&'static str> {
    let [cut @ .., _] = contents else {
        return None;
    };
    let length = |content: &Content| content.length as usize;
    let size = contents.iter().map(length).fold(0, usize::saturating_add);
    if !cut.is_empty() && size <= MAX_CONTENT {
        return Some("a file of up to 4 MiB has one content");
    }
    let short = cut.iter().any(|content| length(content) < MIN_CONTENT);
    short.then_some("all contents of a file but the last have at least 512 KiB")
}

#[cfg(test)]
mod tests {
    use super::{Content, ContentHash, MAX_CONTENT, MIN_CONTENT, fault_of, split};

    /// The same bytes on every machine.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    }

    fn contents(bytes: &[u8]) -> Vec<Content> {
        let mut contents = Vec::new();
        let mut whole = Vec::new();
        split(bytes, |content, bytes| {
            assert!(content.is(bytes));
            contents.push(content);
            whole.extend_from_slice(bytes);
        })
        .unwrap();
        assert!(whole == bytes);
        assert_eq!(fault_of(&contents), None);
        contents
    }

    #[test]
    fn a_file_of_up_to_4_mib_is_one_content_and_an_empty_one_has_none() {
        assert_eq!(contents(b""), []);
        assert_eq!(contents(b"x"), [Content::of(b"x").unwrap()]);
        assert_eq!(contents(&noise(MAX_CONTENT, 1)).len(), 1);
        assert!(contents(&noise(MAX_CONTENT + 1, 1)).len() > 1);
    }

    #[test]
    fn a_change_in_the_middle_of_a_large_file_leaves_most_contents_as_they_were() {
        let mut bytes = noise(40 << 20, 2);
        let before = contents(&bytes);
        assert!((10..=40).contains(&before.len()), "{}", before.len());
        bytes.insert(20 << 20, b'x');
        let changed = contents(&bytes)
            .into_iter()
            .filter(|content| !before.contains(content))
            .count();
        assert!(changed <= 2, "{changed}");
        // Bytes that never say where to cut are cut at the maximum.
        assert!(
            contents(&vec![0; 20 << 20])
                .iter()
                .all(|content| content.length() as usize == MAX_CONTENT)
        );
    }

    #[test]
    fn the_places_of_the_cuts_do_not_change_with_a_version_of_the_library() {
        let lengths: Vec<_> = contents(&noise(12 << 20, 3)).iter().map(Content::length).collect();
        assert_eq!(lengths, [2_580_300, 3_454_000, 2_589_816, 1_003_052, 2_955_744]);
    }

    #[test]
    fn contents_that_no_file_has_are_found() {
        let content = |length| Content::new(ContentHash::of(b""), length).unwrap();
        let (min, max) = (MIN_CONTENT as u32, MAX_CONTENT as u32);
        assert_eq!(fault_of(&[content(max), content(min), content(1)]), None);
        assert!(fault_of(&[content(1), content(1)]).is_some());
        assert!(fault_of(&[content(max), content(min - 1), content(1)]).is_some());
        assert_eq!(Content::new(ContentHash::of(b""), 0), None);
        assert_eq!(Content::new(ContentHash::of(b""), max + 1), None);
    }
}
