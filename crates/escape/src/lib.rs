//! Escapes control characters in text of others, e.g., from a server, before it reaches a terminal.
//!
//! Escape sequences can move the cursor, set the window title, or make the terminal send input; their 8-bit forms (C1)
//! do the same, and bidirectional controls reorder what is displayed. Other users choose names and messages, so all
//! such characters but newlines and tabs are shown as JSON escapes, e.g., `\u001b`.

use std::borrow::Cow;
use std::fmt::Write;

/// Escapes control characters except newlines and tabs.
#[must_use]
pub fn escape_controls(text: &str) -> String {
    escape_if(text, |character| {
        !matches!(character, '\n' | '\t') && is_terminal_control(character)
    })
}

/// The same for text with our own styles, whose other escape sequences were already replaced: only the 8-bit forms are
/// left.
#[must_use]
pub fn escape_8_bit_controls(text: &str) -> String {
    escape_if(text, |character| matches!(character, '\u{80}'..='\u{9f}'))
}

fn escape_if(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match is_escaped(character) {
            true => push_escape(&mut escaped, character),
            false => escaped.push(character),
        }
    }
    escaped
}

/// The same on one line: newlines and tabs become spaces.
#[must_use]
pub fn escape_line(text: &str) -> String {
    escape_controls(text).replace(['\n', '\t'], " ")
}

/// Equivalent JSON with control characters in strings written as escapes.
#[must_use]
pub fn escape_json(json: &str) -> Cow<'_, str> {
    if !json
        .chars()
        .any(|character| is_terminal_control(character) && character != '\n')
    {
        return json.into();
    }
    // JSON strings cannot contain a raw carriage return, so it is whitespace between tokens.
    escape_controls(&json.replace('\r', " ")).into()
}

/// Rewrites JSON so that its decoded strings have no terminal controls.
///
/// Working on the JSON text instead of on decoded values covers every string of every type.
#[must_use]
pub fn escape_json_strings(json: &str) -> Cow<'_, str> {
    let mut escaped = String::new();
    let mut copied = 0;
    let mut characters = json.char_indices();
    while let Some((at, character)) = characters.next() {
        let to_escape = match character {
            '\\' => match characters.next() {
                Some((_, 'u')) => {
                    escaped_character(&json[at..]).filter(|(character, _)| is_terminal_control(*character))
                }
                Some((_, 'b')) => Some(('\u{8}', 2)),
                Some((_, 'f')) => Some(('\u{c}', 2)),
                Some((_, 'r')) => Some(('\r', 2)),
                _ => None,
            },
            '\r' => None,
            _ if is_terminal_control(character) => Some((character, character.len_utf8())),
            _ => None,
        };
        let Some((character, length)) = to_escape.filter(|(character, _)| !matches!(character, '\n' | '\t')) else {
            continue;
        };
        escaped.push_str(&json[copied..at]);
        // Escape the backslash, so that decoding yields the escape sequence and not the character.
        let mut escape = String::new();
        push_escape(&mut escape, character);
        escaped.push_str(&escape.replace('\\', "\\\\"));
        copied = at + length;
        while characters.clone().next().is_some_and(|(next, _)| next < copied) {
            characters.next();
        }
    }
    if copied == 0 {
        return json.into();
    }
    escaped.push_str(&json[copied..]);
    escaped.into()
}

/// The character of an escape such as `\u001b`, and the length of the escape in bytes. Handles surrogate pairs, because
/// tag characters (U+E0000 to U+E007F) need them.
fn escaped_character(escape: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = escape.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = unit(0)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = unit(6).filter(|second| (0xdc00..0xe000).contains(second))?;
    let code = 0x1_0000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
    Some((char::from_u32(code)?, 12))
}

/// Whether a terminal interprets the character instead of displaying it.
#[must_use]
pub fn is_terminal_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn push_escape(text: &mut String, character: char) {
    let mut units = [0; 2];
    for unit in character.encode_utf16(&mut units) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{escape_controls, escape_json, escape_json_strings, escape_line, is_terminal_control};

    const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\r\u{8}\u{7f}\u{e0041}\u{feff}é\"\\u001b";

    fn is_harmless(text: &str) -> bool {
        text.chars()
            .all(|character| !is_terminal_control(character) || matches!(character, '\n' | '\t'))
    }

    #[test]
    fn what_a_terminal_obeys_is_shown_instead() {
        assert_eq!(escape_controls("\u{1b}[2J a\tb\nc\r"), "\\u001b[2J a\tb\nc\\u000d");
        assert_eq!(escape_line("a\nb\u{9b}"), "a b\\u009b");
        assert_eq!(escape_controls("名前 ✔️ é"), "名前 ✔️ é");
        assert!(is_harmless(&escape_controls(HOSTILE)));
    }

    #[test]
    fn strings_of_json_are_harmless_once_decoded() {
        let raw =
            "{\"a\":\"\\u001b]0;x\\u0007\\u009B\\r\\udb40\\udc41\u{9b}\u{202e}\",\"\\u001bk\":[\"\\\\u001b\\n\"]}";
        let value: Value = serde_json::from_str(&escape_json_strings(raw)).unwrap();
        let expected =
            json!({"a": "\\u001b]0;x\\u0007\\u009b\\u000d\\udb40\\udc41\\u009b\\u202e", "\\u001bk": ["\\u001b\n"]});
        assert_eq!(value, expected);
    }

    proptest! {
        #[test]
        fn no_string_comes_through(text: String) {
            for text in [text, HOSTILE.to_owned()] {
                let json = json!({ &text: [&text] }).to_string();
                let value: Value = serde_json::from_str(&escape_json_strings(&json)).unwrap();
                let decoded = value.as_object().unwrap().iter().next().unwrap();
                prop_assert_eq!(decoded.0, &escape_controls(&text));
                prop_assert_eq!(decoded.1[0].as_str().unwrap(), escape_controls(&text));
                let printed = escape_json(&json);
                prop_assert!(is_harmless(&printed));
                prop_assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), json!({ &text: [&text] }));
            }
        }
    }
}
