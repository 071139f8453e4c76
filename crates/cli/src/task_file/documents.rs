//! Splits a YAML stream into its documents.

/// A document of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// How many lines of the stream come before it.
    lines_before: usize,
    text: String,
}

impl Document {
    /// The document after as many empty lines as there are lines before it in the stream, so that errors have their
    /// line.
    pub(crate) fn at_its_line(&self) -> String {
        format!("{}{}", "\n".repeat(self.lines_before), self.text)
    }
}

/// The documents of a stream, without those that contain nothing but comments.
///
/// A line that starts with `---` or `...` ends a document wherever it is: no scalar may contain one
/// (<https://yaml.org/spec/1.2.2/#rule-c-forbidden>).
pub(crate) fn split_documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut document = Document {
        lines_before: 0,
        text: String::new(),
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let rest = match (after_marker(line, "---"), after_marker(line, "...")) {
            (None, None) => {
                document.text.push_str(line);
                continue;
            }
            // The column of what follows the marker counts, so the marker stays.
            (Some(rest), _) if has_code(rest) => line,
            (Some(rest), _) | (None, Some(rest)) => rest,
        };
        let next = Document {
            lines_before: number,
            text: rest.to_owned(),
        };
        documents.push(std::mem::replace(&mut document, next));
    }
    documents.push(document);
    documents.retain(|document| document.text.lines().any(has_code));
    documents
}

/// What follows a marker at the start of a line.
fn after_marker<'l>(line: &'l str, marker: &str) -> Option<&'l str> {
    let rest = line.strip_prefix(marker)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// Whether a line has more than a comment or a directive.
fn has_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with(['#', '%'])
}

#[cfg(test)]
mod tests {
    use super::{Document, split_documents};

    fn split(text: &str) -> Vec<String> {
        split_documents(text).iter().map(Document::at_its_line).collect()
    }

    #[test]
    fn documents_keep_their_lines() {
        assert_eq!(split("run: a\n"), ["run: a\n"]);
        assert_eq!(split("a: 1\n---\nb: 2\n---\n"), ["a: 1\n", "\n\nb: 2\n"]);
        assert_eq!(split("--- # first\nrun: b\n...\n"), [" # first\nrun: b\n"]);
        assert_eq!(split("\u{feff}---\nrun: b"), ["\nrun: b"]);
        assert_eq!(split("%YAML 1.2\n---\na: 1\n"), ["\n\na: 1\n"]);
        assert_eq!(
            split("--- {run: a}\n--- {run: b}"),
            ["--- {run: a}\n", "\n--- {run: b}"]
        );
    }

    #[test]
    fn a_marker_is_at_the_start_of_a_line_and_stands_alone() {
        for text in ["run: |\n  ---\n  x\n", "run: a\n----\n", "run: a\n---b\n"] {
            assert_eq!(split(text), [text]);
        }
    }

    #[test]
    fn documents_without_content_are_left_out() {
        for text in ["", "---\n---\n", "# nothing\n---\n\n...\n"] {
            assert!(split(text).is_empty(), "{text}");
        }
    }
}
