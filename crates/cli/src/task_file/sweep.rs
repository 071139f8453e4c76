//! Flags that make several tasks of one: a sweep over values of variables, or copies of a task.

use task::definition::MAX_GROUP_TASKS;

use super::document::YamlDocument;
use crate::error::{Error, Result};

/// The variables of a copy of a task that was submitted with `--num-jobs`, as in SkyPilot
/// (<https://docs.skypilot.co/en/latest/examples/pools.html>).
const JOB_RANK: &str = "SKYPILOT_JOB_RANK";
const NUM_JOBS: &str = "SKYPILOT_NUM_JOBS";

/// The maximum length of a name that contains the values of its variables: that of a label in Kubernetes.
const MAX_NAME_LENGTH: usize = 63;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Several tasks at once")]
pub(crate) struct SweepArgs {
    /// Submit a task for each of these values of a variable, e.g., LR=[0.1,0.01] or SEED=1..5. With several, for each
    /// combination. Can be repeated.
    #[arg(long, value_name = "NAME=VALUES", conflicts_with = "num_jobs")]
    pub sweep: Vec<String>,

    /// Submit N tasks. Each has its number, from 0, in `SKYPILOT_JOB_RANK`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_GROUP_TASKS)))]
    pub num_jobs: Option<u32>,

    /// How many of these tasks run at the same time. Defaults to all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_parallel: Option<u32>,
}

/// One task of a sweep: what it adds to the name, and its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SweepPoint {
    pub suffix: String,
    pub variables: Vec<(String, String)>,
}

impl SweepArgs {
    /// The tasks to submit, or `None` if the flags ask for a single one.
    ///
    /// # Errors
    /// [`Error::Usage`] if a value is invalid, or there are too many tasks.
    pub(crate) fn points(&self) -> Result<Option<Vec<SweepPoint>>> {
        if let Some(count) = self.num_jobs {
            let point = |rank: u32| SweepPoint {
                suffix: rank.to_string(),
                variables: vec![
                    (JOB_RANK.to_owned(), rank.to_string()),
                    (NUM_JOBS.to_owned(), count.to_string()),
                ],
            };
            return Ok(Some((0..count).map(point).collect()));
        }
        if self.sweep.is_empty() {
            if self.max_parallel.is_some() {
                return Err(Error::Usage(
                    "`--max-parallel` requires `--sweep` or `--num-jobs`".to_owned(),
                ));
            }
            return Ok(None);
        }
        let mut combinations: Vec<Vec<(String, String)>> = vec![Vec::new()];
        for flag in &self.sweep {
            let (name, values) = parse_sweep(flag)?;
            if combinations[0].iter().any(|(known, _)| *known == name) {
                return Err(Error::Usage(format!(
                    "`--sweep {name}` is given twice; list all values in one"
                )));
            }
            if combinations.len() * values.len() > MAX_GROUP_TASKS as usize {
                return Err(Error::Usage(format!(
                    "the values of `--sweep` have more than {MAX_GROUP_TASKS} combinations; submit them in parts"
                )));
            }
            let extend = |known: &Vec<(String, String)>| {
                let with = |value: &String| [known.as_slice(), &[(name.clone(), value.clone())]].concat();
                values.iter().map(with).collect::<Vec<_>>()
            };
            combinations = combinations.iter().flat_map(extend).collect();
        }
        Ok(Some(with_suffixes(combinations)))
    }
}

/// Names the tasks after their values, or by number if the values are no names.
fn with_suffixes(combinations: Vec<Vec<(String, String)>>) -> Vec<SweepPoint> {
    let of_values = |variables: &Vec<(String, String)>| {
        let values: Vec<&str> = variables.iter().map(|(_, value)| value.as_str()).collect();
        values.join("-")
    };
    let mut suffixes: Vec<String> = combinations.iter().map(of_values).collect();
    let are_names = suffixes
        .iter()
        .all(|suffix| suffix.len() < MAX_NAME_LENGTH / 2 && task::Name::new(suffix).is_some());
    let mut sorted = suffixes.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if !are_names || sorted.len() < suffixes.len() {
        suffixes = (1..=suffixes.len()).map(|number| number.to_string()).collect();
    }
    let point = |(suffix, variables)| SweepPoint { suffix, variables };
    suffixes.into_iter().zip(combinations).map(point).collect()
}

/// Parses `NAME=[A,B]`, `NAME=A,B`, or `NAME=1..5`.
fn parse_sweep(flag: &str) -> Result<(String, Vec<String>)> {
    let invalid = || {
        Error::Usage(format!(
            "invalid value `{flag}` for `--sweep`; expected a variable and its values, e.g., `LR=[0.1,0.01]` or `SEED=1..5`"
        ))
    };
    let (name, values) = flag.split_once('=').ok_or_else(invalid)?;
    let values = values.trim();
    let values = match parse_range(values) {
        Some((first, last)) => {
            let count = last.abs_diff(first).saturating_add(1);
            if count > MAX_GROUP_TASKS.into() {
                return Err(Error::Usage(format!(
                    "`--sweep {flag}` has more than {MAX_GROUP_TASKS} values"
                )));
            }
            if first <= last {
                (first..=last).map(|number| number.to_string()).collect()
            } else {
                (last..=first).rev().map(|number| number.to_string()).collect()
            }
        }
        None => parse_list(values).ok_or_else(invalid)?,
    };
    if name.is_empty() || values.is_empty() {
        return Err(invalid());
    }
    Ok((name.to_owned(), values))
}

/// Both ends of a range, which are part of it, as in Bash.
fn parse_range(text: &str) -> Option<(i64, i64)> {
    let (first, last) = text.split_once("..")?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

/// The items of a YAML list, as they are written.
fn parse_list(text: &str) -> Option<Vec<String>> {
    let list = if text.starts_with('[') {
        text.to_owned()
    } else {
        format!("[{text}]")
    };
    let document = YamlDocument::parse(&list).ok()?;
    let items = document.value.as_array()?.iter().enumerate();
    let item = |(index, value): (usize, &serde_json::Value)| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => {
            let span = document.spans.get(&vec![index.to_string()])?;
            Some(list[span.value.clone()].to_owned())
        }
        _ => None,
    };
    items.map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::{SweepArgs, SweepPoint};

    fn points(sweep: &[&str]) -> Vec<SweepPoint> {
        let sweep = sweep.iter().map(|flag| (*flag).to_owned()).collect();
        let args = SweepArgs {
            sweep,
            ..SweepArgs::default()
        };
        args.points().unwrap().unwrap()
    }

    fn values(flag: &str) -> Vec<String> {
        points(&[flag])
            .into_iter()
            .map(|point| point.variables[0].1.clone())
            .collect()
    }

    #[test]
    fn values_are_lists_or_ranges_and_stay_as_written() {
        assert_eq!(values("LR=[0.10, 1e-3]"), ["0.10", "1e-3"]);
        assert_eq!(values("LR=0.1,0.01"), ["0.1", "0.01"]);
        assert_eq!(values("SEED=1..3"), ["1", "2", "3"]);
        assert_eq!(values("N=-1..1"), ["-1", "0", "1"]);
        assert_eq!(values("N=2..0"), ["2", "1", "0"]);
        assert_eq!(values("A=[\"a,b\", true, x y]"), ["a,b", "true", "x y"]);
    }

    #[test]
    fn several_variables_make_all_combinations() {
        let all = points(&["LR=[0.1,0.01]", "SEED=1..2"]);
        let names: Vec<&str> = all.iter().map(|point| point.suffix.as_str()).collect();
        assert_eq!(names, ["0.1-1", "0.1-2", "0.01-1", "0.01-2"]);
        assert_eq!(
            all[2].variables,
            [
                ("LR".to_owned(), "0.01".to_owned()),
                ("SEED".to_owned(), "1".to_owned())
            ]
        );
    }

    #[test]
    fn values_that_are_no_names_are_numbered() {
        let names = |flag: &str| {
            points(&[flag])
                .into_iter()
                .map(|point| point.suffix)
                .collect::<Vec<_>>()
        };
        assert_eq!(names("A=[a/b,c]"), ["1", "2"]);
        assert_eq!(names("A=[a,a]"), ["1", "2"]);
    }

    #[test]
    fn invalid_sweeps_are_errors() {
        for flag in [
            "LR",
            "=1..2",
            "LR=[]",
            "LR=[[1]]",
            "LR=[1",
            "N=1..5000",
            "N=-9223372036854775808..9223372036854775807",
        ] {
            let args = SweepArgs {
                sweep: vec![flag.to_owned()],
                ..SweepArgs::default()
            };
            assert!(args.points().is_err(), "{flag}");
        }
        let twice = SweepArgs {
            sweep: vec!["A=1".to_owned(), "A=2".to_owned()],
            ..SweepArgs::default()
        };
        assert!(twice.points().is_err());
        let many = SweepArgs {
            sweep: vec!["A=1..100".to_owned(), "B=1..11".to_owned()],
            ..SweepArgs::default()
        };
        assert!(many.points().unwrap_err().to_string().contains("1000 combinations"));
        let alone = SweepArgs {
            max_parallel: Some(2),
            ..SweepArgs::default()
        };
        assert!(alone.points().is_err());
    }
}
