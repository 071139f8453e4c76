//! Environment variables from `--env` and `--env-file`, and the check that all variables have values.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report::{Origin, Report};
use crate::error::{Error, Result};

/// Name, value, and flag of each variable, in order of increasing precedence.
pub fn from_flags(files: &[PathBuf], flags: &[String]) -> Result<Vec<(String, String, String)>> {
    let mut variables = Vec::new();
    for path in files {
        for (name, value) in of_file(path)? {
            variables.push((name, value, format!("--env-file {}", path.display())));
        }
    }
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (flag.clone(), own(flag)?),
        };
        // Without the value, which may be a secret and would show up in error messages.
        let origin = format!("--env {name}");
        variables.push((name, value, origin));
    }
    Ok(variables)
}

fn of_file(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let mut variables = Vec::new();
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        match parse_line(line) {
            Line::Nothing => {}
            Line::Variable(name, value) => variables.push((name.to_owned(), value.to_owned())),
            Line::Own(name) => variables.push((name.to_owned(), own(name)?)),
            // Do not show the line: it may contain a secret.
            Line::Wrong => {
                return Err(Error::Usage(format!(
                    "`{}:{number}`: invalid line; expected `NAME=VALUE`, or `NAME` to use the local value",
                    path.display()
                )));
            }
        }
    }
    Ok(variables)
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Variable(&'a str, &'a str),
    /// A name without a value, which is taken from the local environment.
    Own(&'a str),
    Wrong,
}

/// Parses a line like `docker run --env-file` and `kubectl create --from-env-file`: the value is everything after `=`,
/// without any expansion. In addition, a leading `export ` is allowed, and quotes around the whole value are removed.
fn parse_line(line: &str) -> Line<'_> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return Line::Nothing;
    }
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
    match line.split_once('=') {
        Some((name, value)) if is_name(name) => Line::Variable(name, unquoted(value)),
        None if is_name(line.trim_end()) => Line::Own(line.trim_end()),
        _ => Line::Wrong,
    }
}

fn unquoted(value: &str) -> &str {
    let trimmed = value.trim_end();
    let inner = |quote: char| trimmed.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn own(name: &str) -> Result<String> {
    std::env::var(name).map_err(|error| match error {
        std::env::VarError::NotPresent => Error::Usage(format!(
            "`--env {name}`: `{name}` is not set in your environment; use `--env {name}=VALUE`"
        )),
        std::env::VarError::NotUnicode(_) => Error::Usage(format!("`--env {name}`: the value is not valid UTF-8")),
    })
}

/// Requires a value for each variable. As with SkyPilot, a variable without a value in the task file must get one from
/// a flag.
pub fn all_have_values(body: &Value, origin: &Origin) -> Result<()> {
    let Some(envs) = body["envs"].as_object() else {
        return Ok(());
    };
    for (name, value) in envs {
        if value.is_null() {
            let message =
                format!("missing value; set it with `--env {name}=VALUE`, or pass your own with `--env {name}`");
            return Err(Error::Task(Report::fault(origin, &["envs", name], &message)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Line, parse_line};

    #[test]
    fn a_value_is_what_stands_there() {
        for (line, name, value) in [
            ("A=1", "A", "1"),
            ("A=", "A", ""),
            ("PW=pa$$word ${B} # \\x", "PW", "pa$$word ${B} # \\x"),
            ("P={\"a\": 1}", "P", "{\"a\": 1}"),
            ("C=it's", "C", "it's"),
            ("E=a=b", "E", "a=b"),
            ("export B=\"two words\"", "B", "two words"),
            ("  S='$x'", "S", "$x"),
        ] {
            assert_eq!(parse_line(line), Line::Variable(name, value), "{line}");
        }
        assert_eq!(parse_line("HOME"), Line::Own("HOME"));
        for line in ["", "  ", "# A=1"] {
            assert_eq!(parse_line(line), Line::Nothing, "{line}");
        }
        for line in ["=1", "two words", "A B=1"] {
            assert_eq!(parse_line(line), Line::Wrong, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_value_is_changed(value in "[^\\r\\n'\"]*") {
            let line = format!("NAME={value}");
            prop_assert_eq!(parse_line(&line), Line::Variable("NAME", &value));
        }
    }
}
