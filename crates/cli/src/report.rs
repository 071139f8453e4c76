//! Shows errors in a task at their locations in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::field_error::FieldError;

/// The path to a value: keys, and indices as text.
pub(crate) type ValuePath = Vec<String>;

/// The location of a value in the text, as byte ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueSpan {
    /// The key, if the value is in a map.
    pub key: Option<Range<usize>>,
    /// The value, or an empty range at its start.
    pub value: Range<usize>,
}

/// Where the values of a task come from.
#[derive(Debug, Clone)]
pub(crate) struct TaskSource {
    file: Option<SourceFile>,
    /// Flags by the path of the value that they set.
    flags: BTreeMap<ValuePath, String>,
}

#[derive(Debug, Clone)]
struct SourceFile {
    name: String,
    text: String,
    spans: BTreeMap<ValuePath, ValueSpan>,
}

/// Error messages with their locations.
#[derive(Debug, Clone)]
pub(crate) struct Report(Vec<Diagnostic>);

#[derive(Debug, Clone)]
struct Diagnostic {
    message: String,
    /// `None` for a value from a flag.
    location: Option<Location>,
}

/// A range in a file.
#[derive(Debug, Clone)]
struct Location {
    file_name: String,
    text: String,
    range: Range<usize>,
}

impl TaskSource {
    pub(crate) fn file(name: String, text: String, spans: BTreeMap<ValuePath, ValueSpan>) -> Self {
        Self {
            file: Some(SourceFile { name, text, spans }),
            flags: BTreeMap::new(),
        }
    }

    /// The task is a command from the arguments.
    pub(crate) fn command() -> Self {
        Self {
            file: None,
            flags: BTreeMap::new(),
        }
    }

    /// Records that `flag` set the value at `path`.
    pub(crate) fn record_flag(&mut self, path: &[&str], flag: &str) {
        let path = path.iter().map(|step| (*step).to_owned()).collect();
        self.flags.insert(path, flag.to_owned());
    }

    /// Whether a flag set the value at `path`.
    pub(crate) fn is_flag(&self, path: &[&str]) -> bool {
        self.flags.keys().any(|flag| flag.as_slice() == path)
    }

    fn locate(&self, path: &[String], message: &str, mark: Mark) -> Diagnostic {
        for length in (1..=path.len()).rev() {
            if let Some(flag) = self.flags.get(&path[..length]) {
                return Diagnostic {
                    message: format!("`{flag}`: {message}"),
                    location: None,
                };
            }
        }
        let message = match path {
            [] => message.to_owned(),
            path => format!("`{}`: {message}", path.join(".")),
        };
        match &self.file {
            Some(file) => {
                let is_secret = path.iter().any(|key| key.to_ascii_lowercase().contains("secret"));
                let range = file.range_to_mark(path, mark);
                Diagnostic::in_file(message, &file.name, &file.text, range, is_secret)
            }
            None => Diagnostic {
                message,
                location: None,
            },
        }
    }
}

impl Diagnostic {
    /// A message about a range in a file. A line that may contain a secret is only named.
    fn in_file(message: String, file_name: &str, text: &str, range: Range<usize>, is_secret: bool) -> Self {
        let line = text[..range.start].matches('\n').count();
        if is_secret || secret_lines(text).contains(&line) {
            return Self {
                message: format!("`{file_name}:{}`: {message}", line + 1),
                location: None,
            };
        }
        Self {
            message,
            location: Some(Location {
                file_name: file_name.to_owned(),
                text: text.to_owned(),
                range,
            }),
        }
    }
}

/// The lines, counted from 0, that may contain a secret: those with a key whose name contains `secret`, or with the
/// password of a registry, and the more indented ones after them. By their text, because the file may not be valid YAML.
fn secret_lines(text: &str) -> BTreeSet<usize> {
    const NAMES: [&str; 2] = ["secret", "skypilot_docker_password"];
    let mut lines = BTreeSet::new();
    let mut block_indent = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if block_indent.is_some_and(|block| indent <= block) && !line.trim().is_empty() {
            block_indent = None;
        }
        let lower = line.to_ascii_lowercase();
        if NAMES.iter().any(|name| lower.contains(name)) && block_indent.is_none() {
            block_indent = Some(indent);
        }
        if block_indent.is_some() {
            lines.insert(number);
        }
    }
    lines
}

/// What to mark in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Key,
    Value,
}

impl SourceFile {
    /// The location to mark for an error at `path`: the value; its key if the key is wrong or the value spans several
    /// lines; or, if the value is missing, the innermost value around it.
    fn range_to_mark(&self, path: &[String], mark: Mark) -> Range<usize> {
        for length in (0..=path.len()).rev() {
            let Some(span) = self.spans.get(&path[..length]) else {
                continue;
            };
            let value = first_line(&self.text, span.value.clone());
            let is_whole = length == path.len() && !value.is_empty();
            return match &span.key {
                Some(key) if mark == Mark::Key || !is_whole || span.value.len() > value.len() => key.clone(),
                Some(_) | None if is_whole => value,
                Some(key) => key.clone(),
                // An item of a list that is not text: mark the list.
                None if length > 0 => continue,
                // A missing top-level key has no location: only the file name is shown.
                None => 0..0,
            };
        }
        0..0
    }
}

/// The first line of a range.
fn first_line(text: &str, range: Range<usize>) -> Range<usize> {
    let length = text[range.clone()].lines().next().unwrap_or_default().trim_end().len();
    range.start..range.start + length
}

impl Report {
    pub(crate) fn field_errors(source: &TaskSource, errors: &[FieldError]) -> Self {
        let locate = |error: &FieldError| {
            let mark = if error.is_unknown_field() {
                Mark::Key
            } else {
                Mark::Value
            };
            source.locate(&error.path(), &error.message(), mark)
        };
        Self(errors.iter().map(locate).collect())
    }

    /// Several reports as one.
    pub(crate) fn joined(reports: impl Iterator<Item = Self>) -> Self {
        Self(reports.flat_map(|report| report.0).collect())
    }

    /// An error in the value at `path`.
    pub(crate) fn value_error(source: &TaskSource, path: &[impl AsRef<str>], message: &str) -> Self {
        let path: ValuePath = path.iter().map(|step| step.as_ref().to_owned()).collect();
        Self(vec![source.locate(&path, message, Mark::Value)])
    }

    /// A file that cannot be parsed; without a range, only its name is shown.
    pub(crate) fn parse_error(file_name: &str, text: &str, message: String, range: Option<Range<usize>>) -> Self {
        let location = range.unwrap_or(0..0);
        // Without its structure, it is unknown which lines of a file contain secrets.
        let is_secret = !secret_lines(text).is_empty();
        Self(vec![Diagnostic::in_file(message, file_name, text, location, is_secret)])
    }
}

impl fmt::Display for Report {
    /// Always styled; `anstream` strips the styles if the output does not support color.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            let title = Level::ERROR.primary_title(&diagnostic.message);
            let group = match &diagnostic.location {
                Some(Location { file_name, range, .. }) if range.is_empty() && range.start == 0 => {
                    title.element(Origin::path(file_name.as_str()))
                }
                Some(Location { file_name, text, range }) => title.element(
                    Snippet::source(text.as_str())
                        .path(file_name.as_str())
                        .annotation(AnnotationKind::Primary.span(visible_range(text, range))),
                ),
                None => annotate_snippets::Group::with_title(title),
            };
            let rendered = Renderer::styled().render(&[group]);
            formatter.write_str(rendered.trim_end())?;
        }
        Ok(())
    }
}

/// Extends an empty range by one character, so that the mark is visible.
fn visible_range(text: &str, range: &Range<usize>) -> Range<usize> {
    if !range.is_empty() {
        return range.clone();
    }
    let next = text[range.start..].chars().next().map_or(0, char::len_utf8);
    range.start..range.start + next
}

#[cfg(test)]
mod tests {
    use super::secret_lines;

    #[test]
    fn lines_with_secrets_are_found_without_parsing() {
        let text = "name: a\nsecrets:\n  A: x\n\n  B: @y\nrun: b\nenvs:\n  SKYPILOT_DOCKER_PASSWORD: z\n  C: d\n\
                    {\"run\": \"a\", \"Secret\": {\"A\": 1}}\n";
        assert_eq!(secret_lines(text).into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 7, 9]);
    }
}
