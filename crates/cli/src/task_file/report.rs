//! Shows errors in a task at their locations in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::document::{Mistake, Path, Place};
use crate::error::Fault;

/// Where the values of a task come from.
#[derive(Debug, Clone)]
pub struct Origin {
    file: Option<File>,
    /// Flags by the path of the value that they set.
    flags: BTreeMap<Path, String>,
}

#[derive(Debug, Clone)]
struct File {
    name: String,
    text: String,
    places: BTreeMap<Path, Place>,
}

/// Error messages with their locations.
#[derive(Debug, Clone)]
pub struct Report(Vec<Located>);

#[derive(Debug, Clone)]
struct Located {
    message: String,
    place: Option<(String, String, Range<usize>)>,
}

impl Origin {
    pub fn file(name: String, text: String, places: BTreeMap<Path, Place>) -> Self {
        Self {
            file: Some(File { name, text, places }),
            flags: BTreeMap::new(),
        }
    }

    /// The task is a command from the arguments.
    pub fn command() -> Self {
        Self {
            file: None,
            flags: BTreeMap::new(),
        }
    }

    /// Records that `flag` set the value at `path`.
    pub fn set_by(&mut self, path: &[&str], flag: &str) {
        let path = path.iter().map(|step| (*step).to_owned()).collect();
        self.flags.insert(path, flag.to_owned());
    }

    fn locate(&self, path: &[String], message: &str, is_key: bool) -> Located {
        for length in (1..=path.len()).rev() {
            if let Some(flag) = self.flags.get(&path[..length]) {
                return Located {
                    message: format!("`{flag}`: {message}"),
                    place: None,
                };
            }
        }
        let named = match path {
            [] => message.to_owned(),
            path => format!("`{}`: {message}", path.join(".")),
        };
        let place = self.file.as_ref().map(|file| {
            let range = file.place_of(path, is_key);
            (file.name.clone(), file.text.clone(), range)
        });
        Located { message: named, place }
    }
}

impl File {
    /// The location to mark for an error at `path`: the value; its key if the key is wrong or the value spans several
    /// lines; or, if the value is missing, the innermost value around it.
    fn place_of(&self, path: &[String], is_key: bool) -> Range<usize> {
        for length in (0..=path.len()).rev() {
            let Some(place) = self.places.get(&path[..length]) else {
                continue;
            };
            let value = first_line(&self.text, place.value.clone());
            let is_whole = length == path.len() && !value.is_empty();
            return match &place.key {
                Some(key) if is_key || !is_whole || place.value.len() > value.len() => key.clone(),
                Some(_) | None if is_whole => value,
                Some(key) => key.clone(),
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
    pub fn faults(origin: &Origin, faults: &[Fault]) -> Self {
        let locate = |fault: &Fault| origin.locate(&fault.path(), &fault.message(), fault.kind == "extra_forbidden");
        Self(faults.iter().map(locate).collect())
    }

    pub fn fault(origin: &Origin, path: &[&str], message: &str) -> Self {
        let path: Path = path.iter().map(|step| (*step).to_owned()).collect();
        Self(vec![origin.locate(&path, message, false)])
    }

    /// A file that cannot be parsed.
    pub fn mistake(name: String, text: String, mistake: &Mistake) -> Self {
        let place = mistake.place.clone().unwrap_or(0..0);
        Self(vec![Located {
            message: mistake.message.clone(),
            place: Some((name, text, place)),
        }])
    }
}

impl fmt::Display for Report {
    /// Always styled; `anstream` strips the styles if the output does not support color.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, located) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            let title = Level::ERROR.primary_title(&located.message);
            let group = match &located.place {
                Some((name, text, range)) if range.is_empty() && range.start == 0 => {
                    title.element(annotate_snippets::Origin::path(name.as_str()))
                }
                Some((name, text, range)) => title.element(
                    Snippet::source(text.as_str())
                        .path(name.as_str())
                        .annotation(AnnotationKind::Primary.span(visible(text, range))),
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
fn visible(text: &str, range: &Range<usize>) -> Range<usize> {
    if !range.is_empty() {
        return range.clone();
    }
    let next = text[range.start..].chars().next().map_or(0, char::len_utf8);
    range.start..range.start + next
}
