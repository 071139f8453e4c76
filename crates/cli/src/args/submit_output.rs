//! The values of `jobs submit --output`: a format, or a path of the task.

use std::str::FromStr;

use clap::ValueEnum;

use super::output::Format;

/// What `--output` of a submit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SubmitOutput {
    /// How the response is printed.
    Format(Format),
    /// What of the first node is kept when it ends.
    Path(String),
}

impl FromStr for SubmitOutput {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Format::from_str(text, false) {
            Ok(format) => Ok(Self::Format(format)),
            Err(_) if text.contains('/') || text.starts_with('~') => Ok(Self::Path(text.to_owned())),
            Err(_) => Err(format!(
                "expected `yaml`, `json`, or a path of the task with a `/`, e.g., `./{text}`"
            )),
        }
    }
}

/// The format among the values; the last one of several.
pub(crate) fn format(values: &[SubmitOutput]) -> Option<Format> {
    let mut formats = values.iter().rev().filter_map(|value| match value {
        SubmitOutput::Format(format) => Some(*format),
        SubmitOutput::Path(_) => None,
    });
    formats.next()
}

/// The paths among the values.
pub(crate) fn paths(values: Vec<SubmitOutput>) -> Vec<String> {
    let paths = values.into_iter().filter_map(|value| match value {
        SubmitOutput::Path(path) => Some(path),
        SubmitOutput::Format(_) => None,
    });
    paths.collect()
}

#[cfg(test)]
mod tests {
    use super::{Format, SubmitOutput, format, paths};

    #[test]
    fn a_value_is_a_format_or_has_a_slash() {
        let values: Vec<SubmitOutput> = ["json", "./json", "/tmp/x", "~"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        assert_eq!(format(&values), Some(Format::Json));
        assert_eq!(paths(values), ["./json", "/tmp/x", "~"]);
        assert_eq!(format(&[]), None);
        assert!("jsn".parse::<SubmitOutput>().unwrap_err().contains("`./jsn`"));
    }
}
