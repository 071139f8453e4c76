//! The text form of raw bytes: valid UTF-8 as it is; `%`, control characters, and other bytes percent-encoded.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{percent_decode_str, percent_encode_byte};

/// The text of these bytes. It contains no control characters, so it is safe to print.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char == '%' || char.is_control() {
                push_encoded(&mut text, char.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(char);
            }
        }
        push_encoded(&mut text, chunk.invalid());
    }
    text
}

/// The longest path in a message, in characters.
const MAX_SHOWN: usize = 240;

/// A text, cut in the middle if it is too long for a message.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    let count = text.chars().count();
    if count <= MAX_SHOWN {
        return text.into();
    }
    let half = MAX_SHOWN / 2;
    let start = text.chars().take(half);
    let end = text.chars().skip(count - half);
    start.chain(['\u{2026}']).chain(end).collect::<String>().into()
}

/// A path as messages name it: on one line, and not too long.
pub(crate) fn shown(path: &Path) -> String {
    shortened(&encode(path.as_os_str().as_bytes())).into_owned()
}

/// The bytes of this text, if it is exactly what [`encode`] makes of them: each name has one text only.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    (encode(&bytes) == text).then_some(bytes)
}

fn push_encoded(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().map(|byte| percent_encode_byte(*byte)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::path::Path;

    use super::{decode, encode, shown};

    #[test]
    fn a_name_stays_readable_and_control_characters_do_not_reach_a_terminal() {
        for (bytes, text) in [
            (&b"plain name.txt"[..], "plain name.txt"),
            ("gr\u{fc}n".as_bytes(), "gr\u{fc}n"),
            (b"100%", "100%25"),
            (b"a\xff\xfeb", "a%FF%FEb"),
            (b"\x1b[31m", "%1B[31m"),
            ("\u{85}".as_bytes(), "%C2%85"),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn a_path_in_a_message_is_on_one_line_and_not_too_long() {
        assert_eq!(shown(Path::new("a\nerror: b")), "a%0Aerror: b");
        let long = format!("/start/{}/end", "x".repeat(4000));
        let cut = shown(Path::new(&long));
        assert!(cut.starts_with("/start/xx") && cut.ends_with("xx/end"), "{cut}");
        assert_eq!(cut.chars().count(), 241);
    }

    #[test]
    fn another_spelling_of_a_name_is_refused() {
        for text in ["%41", "a%ff", "100%", "%", "%2", "\n", "%C3%BC"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_string_has_a_text(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn a_text_that_is_accepted_is_the_only_one(text: String) {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
