//! Parses a YAML document into JSON and records the location of every value.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};

use super::yaml_1_1;
use crate::report::{ValuePath, ValueSpan};

#[derive(Debug)]
pub(crate) struct YamlDocument {
    pub value: Value,
    pub spans: BTreeMap<ValuePath, ValueSpan>,
    /// Variables with values that YAML 1.1, and so SkyPilot, reads differently, as `NAME: VALUE`.
    pub ambiguous: Vec<String>,
}

/// Why a document cannot be parsed.
#[derive(Debug)]
pub(crate) struct ParseError {
    pub message: String,
    /// `None` if the error has no location.
    pub range: Option<Range<usize>>,
}

impl YamlDocument {
    /// Parses `text` as YAML 1.2. It must have exactly one document. Values of environment variables keep their literal
    /// text: `012` stays `012`.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let options = serde_saphyr::options! {
            duplicate_keys: DuplicateKeyPolicy::LastWins,
            strict_booleans: true,
            with_snippet: false,
            // Otherwise, `!secret name` would become the text `name`.
            reject_unsupported_tags: true,
            non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        };
        let root: Spanned<YamlValue> =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| ParseError::new(&error, text))?;
        let mut converter = JsonConverter {
            text,
            spans: BTreeMap::new(),
            ambiguous: Vec::new(),
            error: None,
        };
        let value = converter.convert(&mut ValuePath::new(), root, None);
        if let Some(error) = converter.error {
            return Err(error);
        }
        if value.is_null() {
            let message = "the file is empty; add `run` or `setup`".to_owned();
            return Err(ParseError { message, range: None });
        }
        Ok(Self {
            value,
            spans: converter.spans,
            ambiguous: converter.ambiguous,
        })
    }
}

impl ParseError {
    fn new(error: &serde_saphyr::Error, text: &str) -> Self {
        let message = match error {
            serde_saphyr::Error::Budget { .. } => {
                "the file exceeds the limits for values, aliases, or nesting depth; check that it is a task file"
                    .to_owned()
            }
            other => strip_location(&other.to_string()),
        };
        Self {
            message,
            range: error.location().and_then(|location| byte_range(location, text)),
        }
    }
}

/// Strips the location from a message of the parser, because the report shows it anyway.
fn strip_location(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message);
    let end = first.find(" at line ").unwrap_or(first.len());
    let text = match first.strip_prefix("error: ") {
        Some(_) => &first["error: ".len()..end],
        None => &first[..end],
    };
    text.trim_end_matches([':', ' ']).to_owned()
}

fn byte_range(location: Location, text: &str) -> Option<Range<usize>> {
    let span = location.span();
    let start = match span.byte_offset() {
        Some(offset) => usize::try_from(offset).ok()?.min(text.len()),
        None => byte_offset(location, text)?,
    };
    let length = usize::try_from(span.byte_len().unwrap_or(0)).ok()?;
    let end = (start + length).min(text.len());
    (text.is_char_boundary(start) && text.is_char_boundary(end)).then_some(start..end)
}

/// The byte offset of a line and column, both counted from 1.
fn byte_offset(location: Location, text: &str) -> Option<usize> {
    let line = usize::try_from(location.line()).ok()?.checked_sub(1)?;
    let column = usize::try_from(location.column()).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let within: usize = text[start..].chars().take(column).map(char::len_utf8).sum();
    Some(start + within)
}

/// Converts YAML to JSON and collects what the report needs.
struct JsonConverter<'t> {
    text: &'t str,
    spans: BTreeMap<ValuePath, ValueSpan>,
    ambiguous: Vec<String>,
    /// The first error.
    error: Option<ParseError>,
}

impl JsonConverter<'_> {
    fn convert(&mut self, path: &mut ValuePath, node: Spanned<YamlValue>, key: Option<Range<usize>>) -> Value {
        let used = byte_range(node.referenced, self.text).unwrap_or(0..0);
        let defined = byte_range(node.defined, self.text).unwrap_or(0..0);
        self.spans.insert(path.clone(), ValueSpan { key, value: used });
        match node.value {
            YamlValue::Null => Value::Null,
            YamlValue::Bool(_) | YamlValue::Number(_) if is_script(path) => {
                Value::String(self.text[defined].to_owned())
            }
            YamlValue::Bool(flag) => Value::Bool(flag),
            YamlValue::Number(number) if is_variable(path) => self.keep_literal_number(path, &number, defined),
            YamlValue::Number(number) => Value::Number(number),
            YamlValue::Text(text) if is_variable(path) || is_script(path) => {
                let written = &self.text[defined];
                let text = if is_non_finite(&text, written) {
                    written.to_owned()
                } else {
                    text
                };
                if is_variable(path) && text == written && yaml_1_1::differs(&text) {
                    self.ambiguous.push(ambiguous_variable(path, &text));
                }
                Value::String(text)
            }
            YamlValue::Text(text) => Value::String(text),
            YamlValue::List(items) => {
                let items = items.into_iter().enumerate();
                let converted = items.map(|(index, item)| self.convert_child(path, index.to_string(), item, None));
                Value::Array(converted.collect())
            }
            YamlValue::Map(entries) => {
                let mut map = Map::new();
                for (name, item) in entries {
                    let range = byte_range(name.referenced, self.text);
                    if map.contains_key(&name.value) {
                        self.reject_duplicate_key(path, &name.value, range.clone());
                    }
                    let value = self.convert_child(path, name.value.clone(), item, range);
                    map.insert(name.value, value);
                }
                Value::Object(map)
            }
        }
    }

    /// Rejects a duplicate key. `PyYAML` silently takes the last one, which hides leftovers that the user forgot to
    /// remove.
    fn reject_duplicate_key(&mut self, path: &ValuePath, key: &str, range: Option<Range<usize>>) {
        let first = self.spans.get(&[path.as_slice(), &[key.to_owned()]].concat());
        let first = first.and_then(|first| first.key.as_ref());
        let line = first.map_or(1, |first| self.text[..first.start].matches('\n').count() + 1);
        let message = format!("duplicate key `{key}`; first defined on line {line}");
        self.error.get_or_insert(ParseError { message, range });
    }

    fn convert_child(
        &mut self,
        path: &mut ValuePath,
        step: String,
        item: Spanned<YamlValue>,
        key: Option<Range<usize>>,
    ) -> Value {
        path.push(step);
        let value = self.convert(path, item, key);
        path.pop();
        value
    }

    /// Keeps the literal text of a number: as a variable, `1.10` is not `1.1`.
    fn keep_literal_number(&mut self, path: &ValuePath, number: &Number, range: Range<usize>) -> Value {
        let written = &self.text[range];
        if written.is_empty() {
            return Value::Number(number.clone());
        }
        if yaml_1_1::differs(written) {
            let described = ambiguous_variable(path, written);
            self.ambiguous.push(described);
        }
        Value::String(written.to_owned())
    }
}

/// Names a variable in a warning, with its value unless that is a secret.
fn ambiguous_variable(path: &[String], value: &str) -> String {
    match path {
        [map, name] if map == "secrets" || sounds_secret(name) => name.clone(),
        [_, name] => format!("{name}: {value}"),
        _ => value.to_owned(),
    }
}

/// Whether a variable is likely to be a secret, by its name.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["SECRET", "PASSWORD", "TOKEN", "KEY"]
        .iter()
        .any(|word| name.contains(word))
}

fn is_variable(path: &[String]) -> bool {
    matches!(path, [map, _] if map == "envs" || map == "secrets")
}

/// Whether a text is what the parser makes of an unquoted number without a finite value, such as `1e400`.
fn is_non_finite(text: &str, written: &str) -> bool {
    let is_number = written.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '.' | '-' | '+'));
    is_number && text != written && matches!(text, ".inf" | "-.inf" | ".nan")
}

/// Whether the value is a script. `run: true` is a command, although YAML reads it as a boolean.
fn is_script(path: &[String]) -> bool {
    matches!(path, [key] if key == "run" || key == "setup")
}

/// Any YAML value.
#[derive(Debug)]
enum YamlValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<YamlValue>>),
    Map(Vec<(Spanned<String>, Spanned<YamlValue>)>),
}

impl<'de> Deserialize<'de> for YamlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlValueVisitor)
    }
}

struct YamlValueVisitor;

impl<'de> Visitor<'de> for YamlValueVisitor {
    type Value = YamlValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Null)
    }

    fn visit_none<E>(self) -> Result<YamlValue, E> {
        Ok(YamlValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlValue, D::Error> {
        YamlValue::deserialize(deserializer)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<YamlValue, E> {
        Ok(YamlValue::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<YamlValue, E> {
        Ok(YamlValue::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<YamlValue, E> {
        Ok(YamlValue::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<YamlValue, E> {
        // JSON has no infinity or NaN. As text, the value is rejected at its location.
        Ok(Number::from_f64(number).map_or_else(|| YamlValue::Text(number.to_string()), YamlValue::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<YamlValue, E> {
        Ok(YamlValue::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<YamlValue, E> {
        Ok(YamlValue::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<YamlValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(YamlValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<YamlValue, A::Error> {
        let mut map: Vec<(Spanned<String>, Spanned<YamlValue>)> = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let value = entries.next_value()?;
            map.push((key, value));
        }
        Ok(YamlValue::Map(map))
    }
}
