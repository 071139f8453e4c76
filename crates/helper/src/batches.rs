//! Divides the contents of a file set into requests.

use files::Content;

/// How much one request asks for, unless a single content is larger: little enough that a few of them fit into memory.
const MAX_BATCH_BYTES: u64 = 4 << 20;

/// How many contents one request asks for. The server takes 1,000.
const MAX_BATCH_CONTENTS: usize = 500;

/// Divides contents into batches, in their order.
pub(crate) fn batches(contents: impl IntoIterator<Item = Content>) -> Vec<Vec<Content>> {
    let mut batches: Vec<Vec<Content>> = Vec::new();
    let mut bytes = 0;
    for content in contents {
        let length = u64::from(content.length());
        match batches.last_mut() {
            Some(last) if bytes + length <= MAX_BATCH_BYTES && last.len() < MAX_BATCH_CONTENTS => {
                last.push(content);
                bytes += length;
            }
            _ => {
                batches.push(vec![content]);
                bytes = length;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use files::{Content, ContentHash};

    use super::{MAX_BATCH_BYTES, batches};

    fn sizes(lengths: &[u32]) -> Vec<Vec<u32>> {
        let contents = lengths
            .iter()
            .map(|length| Content::new(ContentHash::of(b"x"), *length));
        let batches = batches(contents.map(Option::unwrap));
        let lengths = |batch: Vec<Content>| batch.iter().map(Content::length).collect();
        batches.into_iter().map(lengths).collect()
    }

    #[test]
    fn a_batch_is_as_large_as_it_may_be_and_keeps_the_order() {
        let full = u32::try_from(MAX_BATCH_BYTES).unwrap();
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[1, 2, full]), [vec![1, 2], vec![full]]);
        assert_eq!(sizes(&[full - 2, 2, 1]), [vec![full - 2, 2], vec![1]]);
        let many = sizes(&[1; 1001]);
        assert_eq!(many.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 1]);
    }
}
