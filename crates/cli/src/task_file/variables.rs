//! Environment variables from `--env` and `--env-file`, and the check that all variables have values.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, FileAction, Result};
use crate::report::{Report, TaskSource};

/// An environment variable of the task.
#[derive(Debug)]
pub(crate) struct EnvVariable {
    pub name: String,
    pub value: String,
    /// The flag that sets it, for error messages.
    pub flag: String,
}

/// The flags that set a kind of variables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VariableFlags {
    /// The key of the task.
    pub key: &'static str,
    /// The flag for one variable.
    pub flag: &'static str,
    /// The flag for a file with variables.
    pub file_flag: &'static str,
}

/// The flags of environment variables.
pub(crate) const ENV: VariableFlags = VariableFlags {
    key: "envs",
    flag: "--env",
    file_flag: "--env-file",
};

/// The flags of secret variables.
pub(crate) const SECRET: VariableFlags = VariableFlags {
    key: "secrets",
    flag: "--secret",
    file_flag: "--secret-file",
};

/// The variables in order of increasing precedence.
pub(crate) fn from_flags(kind: VariableFlags, files: &[PathBuf], flags: &[String]) -> Result<Vec<EnvVariable>> {
    let mut variables = Vec::new();
    for path in files {
        for (name, value) in read_env_file(path)? {
            let flag = format!("{} {}", kind.file_flag, path.display());
            variables.push(EnvVariable { name, value, flag });
        }
    }
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            // A secret may contain `=`, and must not show up as a name.
            Some((name, _)) if kind.key == SECRET.key && !is_variable_name(name) => {
                return Err(Error::Usage(
                    "invalid value for `--secret`; expected `NAME=VALUE`, or `NAME` to use the local value".to_owned(),
                ));
            }
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (flag.clone(), local_value(kind, flag)?),
        };
        // Without the value, which may be a secret and would show up in error messages.
        let flag = format!("{} {name}", kind.flag);
        variables.push(EnvVariable { name, value, flag });
    }
    Ok(variables)
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn read_env_file(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(Error::file(FileAction::Read, path))?;
    let mut variables = Vec::new();
    for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
        match parse_line(line) {
            EnvLine::Blank => {}
            EnvLine::Variable(name, value) => variables.push((name.to_owned(), value.to_owned())),
            EnvLine::Local(name) => match std::env::var(name) {
                Ok(value) => variables.push((name.to_owned(), value)),
                // Do not show the line here either.
                Err(_) => {
                    return Err(Error::Usage(format!(
                        "`{}:{number}`: the variable is not set in your environment; expected `NAME=VALUE`, or `NAME` \
                         to use the local value",
                        path.display()
                    )));
                }
            },
            // Do not show the line: it may contain a secret.
            EnvLine::Invalid => {
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
enum EnvLine<'a> {
    Blank,
    Variable(&'a str, &'a str),
    /// A name without a value, which is taken from the local environment.
    Local(&'a str),
    Invalid,
}

/// Parses a line like `docker run --env-file` and `kubectl create --from-env-file`: the value is everything after `=`,
/// without any expansion. In addition, a leading `export ` is allowed, and quotes around the whole value are removed.
fn parse_line(line: &str) -> EnvLine<'_> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with('#') {
        return EnvLine::Blank;
    }
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
    match line.split_once('=') {
        Some((name, value)) if is_name(name) => EnvLine::Variable(name, unquote(value)),
        None if is_name(line.trim_end()) => EnvLine::Local(line.trim_end()),
        _ => EnvLine::Invalid,
    }
}

fn unquote(value: &str) -> &str {
    let trimmed = value.trim_end();
    let inner = |quote: char| trimmed.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn local_value(kind: VariableFlags, name: &str) -> Result<String> {
    let flag = kind.flag;
    // Somebody may have passed the secret itself instead of its name.
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let name_of_variable = name;
    let name = if kind.key == SECRET.key && !is_name {
        "NAME"
    } else {
        name
    };
    std::env::var(name_of_variable).map_err(|error| match error {
        std::env::VarError::NotPresent => Error::Usage(format!(
            "`{flag} {name}`: `{name}` is not set in your environment; use `{flag} {name}=VALUE`"
        )),
        std::env::VarError::NotUnicode(_) => Error::Usage(format!("`{flag} {name}`: the value is not valid UTF-8")),
    })
}

/// Requires a value for each variable. As with SkyPilot, a variable without a value in the task file must get one from
/// a flag.
pub(crate) fn require_values(body: &Value, source: &TaskSource) -> Result<()> {
    for VariableFlags { key, flag, .. } in [ENV, SECRET] {
        let mut variables = body[key].as_object().into_iter().flatten();
        if let Some((name, _)) = variables.find(|(_, value)| value.is_null()) {
            let message =
                format!("missing value; set it with `{flag} {name}=VALUE`, or pass your own with `{flag} {name}`");
            return Err(Error::InvalidTask(Report::value_error(source, &[key, name], &message)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{EnvLine, parse_line};

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
            assert_eq!(parse_line(line), EnvLine::Variable(name, value), "{line}");
        }
        assert_eq!(parse_line("HOME"), EnvLine::Local("HOME"));
        for line in ["", "  ", "# A=1"] {
            assert_eq!(parse_line(line), EnvLine::Blank, "{line}");
        }
        for line in ["=1", "two words", "A B=1"] {
            assert_eq!(parse_line(line), EnvLine::Invalid, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_value_is_changed(value in "[^\\r\\n'\"]*") {
            let line = format!("NAME={value}");
            prop_assert_eq!(parse_line(&line), EnvLine::Variable("NAME", &value));
        }
    }
}
