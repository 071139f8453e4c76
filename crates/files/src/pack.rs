//! A pack: the body of one upload or download, which is contents one after another, each behind its length.
//!
//! The length is four bytes, the most significant first. The receiver computes the names of the contents itself.

use bytes::{Buf, Bytes, BytesMut};

use crate::content::MAX_CONTENT;
use crate::error::Error;

/// The largest pack, in bytes, with the lengths in it. Proxies let requests of this size through.
pub const MAX_PACK: usize = 8 << 20;

const HEAD: usize = size_of::<u32>();

/// Groups contents into packs. At most one pack and one content are in memory.
#[derive(Debug, Default)]
pub struct PackBuilder {
    pack: BytesMut,
}

impl PackBuilder {
    /// A builder that has nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a content. Returns the pack before it, if the content has no room in that.
    ///
    /// # Errors
    ///
    /// If the content is empty, or larger than [`MAX_CONTENT`].
    pub fn push(&mut self, content: &[u8]) -> Result<Option<Bytes>, Error> {
        let at = self.pack.len();
        check_length(at, content.len())?;
        let length = u32::try_from(content.len()).map_err(|_| Error::Pack { at, reason: TOO_LONG })?;
        let is_full = at + HEAD + content.len() > MAX_PACK;
        let full = is_full.then(|| self.pack.split().freeze());
        self.pack.extend_from_slice(&length.to_be_bytes());
        self.pack.extend_from_slice(content);
        Ok(full)
    }

    /// The last pack, if there is anything in it.
    #[must_use]
    pub fn finish(self) -> Option<Bytes> {
        (!self.pack.is_empty()).then(|| self.pack.freeze())
    }
}

/// The contents of a pack, each a slice of it.
#[derive(Debug, Clone)]
pub struct Pack {
    bytes: Bytes,
}

impl Pack {
    /// Checks all lengths in a pack that anybody may have sent, before the first content is used.
    ///
    /// # Errors
    ///
    /// If the pack is empty or larger than [`MAX_PACK`], ends in the middle of a content, or one is empty or larger than
    /// [`MAX_CONTENT`].
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Pack {
                at: 0,
                reason: "it is empty",
            });
        }
        if bytes.len() > MAX_PACK {
            return Err(Error::Pack {
                at: MAX_PACK,
                reason: "it has more than 8 MiB",
            });
        }
        let mut at = 0;
        while at < bytes.len() {
            let Some((head, rest)) = bytes[at..].split_first_chunk::<HEAD>() else {
                return Err(Error::Pack {
                    at,
                    reason: "it ends in the middle of a length",
                });
            };
            let length = u32::from_be_bytes(*head) as usize;
            check_length(at, length)?;
            if rest.len() < length {
                return Err(Error::Pack {
                    at,
                    reason: "it ends in the middle of a content",
                });
            }
            at += HEAD + length;
        }
        Ok(Self { bytes })
    }
}

/// The contents, in the order in which they were added. No bytes are copied.
impl Iterator for Pack {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        // The lengths were checked.
        let length = self.bytes.try_get_u32().ok()? as usize;
        (length <= self.bytes.len()).then(|| self.bytes.split_to(length))
    }
}

/// Takes a pack apart while it arrives. At most one content, and what has arrived behind it, are in memory.
#[derive(Debug, Default)]
pub struct PackReader {
    arrived: BytesMut,
    /// How many bytes were taken.
    at: usize,
}

impl PackReader {
    /// A reader that nothing has arrived at.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what has arrived. Take the contents in it before more arrives.
    pub fn push(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    /// The next content, or `None` if it has not arrived completely.
    ///
    /// # Errors
    ///
    /// If its length is impossible.
    pub fn take(&mut self) -> Result<Option<Bytes>, Error> {
        let Some((head, rest)) = self.arrived.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        check_length(self.at, length)?;
        if rest.len() < length {
            // So that a large content is not copied again and again.
            let missing = length - rest.len();
            self.arrived.reserve(missing);
            return Ok(None);
        }
        self.arrived.advance(HEAD);
        self.at += HEAD + length;
        Ok(Some(self.arrived.split_to(length).freeze()))
    }

    /// Whether everything that has arrived was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }
}

/// The length of a content as it precedes it in a pack.
#[must_use]
pub fn pack_head(length: u32) -> [u8; HEAD] {
    length.to_be_bytes()
}

const TOO_LONG: &str = "a content has more than 4 MiB";

fn check_length(at: usize, length: usize) -> Result<(), Error> {
    match length {
        0 => Err(Error::Pack {
            at,
            reason: "a content is empty",
        }),
        1..=MAX_CONTENT => Ok(()),
        _ => Err(Error::Pack { at, reason: TOO_LONG }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{MAX_CONTENT, MAX_PACK, Pack, PackBuilder, PackReader};

    fn packs(contents: &[Vec<u8>]) -> Vec<Bytes> {
        let mut builder = PackBuilder::new();
        let mut packs: Vec<_> = contents
            .iter()
            .filter_map(|content| builder.push(content).unwrap())
            .collect();
        packs.extend(builder.finish());
        packs
    }

    #[test]
    fn contents_are_grouped_into_packs_of_at_most_8_mib() {
        let contents: Vec<_> = [MAX_CONTENT, MAX_CONTENT - 8, 1, MAX_CONTENT, 3]
            .map(|size| vec![7; size])
            .into();
        let packs = packs(&contents);
        assert_eq!(
            packs.iter().map(Bytes::len).collect::<Vec<_>>(),
            [MAX_PACK, MAX_CONTENT + 16]
        );
        let read: Vec<_> = packs.into_iter().flat_map(|pack| Pack::parse(pack).unwrap()).collect();
        assert!(read == contents);
        assert_eq!(PackBuilder::new().finish(), None);
    }

    #[test]
    fn a_pack_that_is_cut_or_has_impossible_lengths_is_refused() {
        let mut builder = PackBuilder::new();
        assert!(builder.push(b"").is_err());
        assert!(builder.push(&vec![0; MAX_CONTENT + 1]).is_err());
        assert_eq!(builder.push(b"content").unwrap(), None);
        let pack = builder.finish().unwrap();
        for end in 0..pack.len() {
            assert!(Pack::parse(pack.slice(..end)).is_err(), "{end}");
        }
        for wrong in [&[0, 0, 0, 0][..], &[0xff; 8], &[0, 0x40, 0, 1, 5], &[0, 0, 0, 1, 5, 0]] {
            assert!(Pack::parse(Bytes::copy_from_slice(wrong)).is_err(), "{wrong:?}");
        }
        assert!(Pack::parse(Bytes::from(vec![0; MAX_PACK + 1])).is_err());
        for impossible in [[0; 4], [0, 0x40, 0, 1]] {
            let mut reader = PackReader::new();
            reader.push(&impossible);
            assert!(reader.take().is_err());
        }
    }

    proptest! {
        #[test]
        fn contents_are_read_as_they_were_packed(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..20),
        ) {
            let read: Vec<_> = packs(&contents).into_iter().flat_map(|pack| Pack::parse(pack).unwrap()).collect();
            prop_assert_eq!(read, contents);
        }

        #[test]
        fn a_pack_is_read_the_same_in_whatever_pieces_it_arrives(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..20),
            piece in 1_usize..70,
        ) {
            let mut reader = PackReader::new();
            let mut read = Vec::new();
            for part in packs(&contents).concat().chunks(piece) {
                reader.push(part);
                while let Some(content) = reader.take().unwrap() {
                    read.push(Vec::from(content));
                }
            }
            prop_assert!(reader.is_empty());
            prop_assert_eq!(read, contents);
        }

        #[test]
        fn a_pack_that_is_accepted_is_nothing_but_its_contents(bytes: Vec<u8>) {
            if let Ok(pack) = Pack::parse(Bytes::from(bytes.clone())) {
                let contents: Vec<_> = pack.map(Vec::from).collect();
                prop_assert_eq!(packs(&contents).concat(), bytes);
            }
        }
    }
}
