//! Reads query parameters. As in FastAPI, the last of several values wins, and unknown parameters are ignored.

use std::collections::HashMap;

use archive::HistoryCursor;
use jiff::{Span, SpanRelativeTo, Timestamp};
use serde_json::{Value, json};
use task::validation::{Validator, coerce};
use task::{ErrorDetail, TaskState};

/// How many tasks a page has, and at most.
pub(crate) const DEFAULT_LIMIT: usize = 100;
pub(crate) const MAX_LIMIT: u32 = 1000;

/// The query parameters of a request.
pub(crate) struct QueryParams(HashMap<String, String>);

impl QueryParams {
    pub(crate) fn from_uri(uri: &http::Uri) -> Self {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// Reads a boolean, or `default` if it is absent.
    pub(crate) fn flag(&self, name: &'static str, default: bool, errors: &mut Vec<ErrorDetail>) -> bool {
        self.parse_param(name, errors, |text, validator| match coerce::parse_boolean(text) {
            Some(flag) => Some(flag),
            None => validator.push_error(
                "bool_parsing",
                "Input should be a valid boolean, unable to interpret input",
                &json!(text),
            ),
        })
        .unwrap_or(default)
    }

    /// Reads a non-negative integer.
    pub(crate) fn count(&self, name: &'static str, errors: &mut Vec<ErrorDetail>) -> Option<u32> {
        self.parse_param(name, errors, |text, validator| {
            let input = json!(text);
            let number = coerce::integer(&input, validator)?;
            if number < 0 {
                return validator.push_error_with_context(
                    "greater_than_equal",
                    "Input should be greater than or equal to 0",
                    &input,
                    json!({ "ge": 0 }),
                );
            }
            // Saturate: no log has more lines, and no task more nodes.
            Some(u32::try_from(number).unwrap_or(u32::MAX))
        })
    }

    /// Reads a text to filter by; an empty one is none.
    pub(crate) fn filter_text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|text| !text.is_empty()).cloned()
    }

    /// Reads states, separated by commas.
    pub(crate) fn states(&self, name: &'static str, errors: &mut Vec<ErrorDetail>) -> Vec<TaskState> {
        let states = self.parse_param(name, errors, |text, validator| {
            let parse = |state: &str| serde_json::from_value(Value::from(state)).ok();
            let states: Option<Vec<TaskState>> = text.split(',').map(parse).collect();
            states.or_else(|| {
                validator.value_error(
                    "invalid status; expected pending, running, completed, or failed, or several separated by commas",
                    &Value::from(text),
                )
            })
        });
        states.unwrap_or_default()
    }

    /// Reads the size of a page, from 1 to `max`.
    pub(crate) fn limit(&self, name: &'static str, max: Option<u32>, errors: &mut Vec<ErrorDetail>) -> Option<usize> {
        self.parse_param(name, errors, |text, validator| {
            let input = json!(text);
            let number = coerce::integer(&input, validator)?;
            if number < 1 {
                return validator.push_error_with_context(
                    "greater_than_equal",
                    "Input should be greater than or equal to 1",
                    &input,
                    json!({ "ge": 1 }),
                );
            }
            if let Some(max) = max.filter(|max| number > i64::from(*max)) {
                return validator.push_error_with_context(
                    "less_than_equal",
                    format!("Input should be less than or equal to {max}"),
                    &input,
                    json!({ "le": max }),
                );
            }
            Some(usize::try_from(number).unwrap_or(usize::MAX))
        })
    }

    /// Reads the cursor of a page.
    pub(crate) fn cursor(&self, name: &'static str, errors: &mut Vec<ErrorDetail>) -> Option<HistoryCursor> {
        self.parse_param(name, errors, |text, validator| match HistoryCursor::parse(text) {
            Some(cursor) => Some(cursor),
            None => validator.value_error(
                "invalid cursor; expected the `next_cursor` of a page",
                &Value::from(text),
            ),
        })
    }

    /// Reads a timestamp, or a duration before now.
    pub(crate) fn since(&self, name: &'static str, errors: &mut Vec<ErrorDetail>) -> Option<Timestamp> {
        self.parse_param(name, errors, |text, validator| {
            match parse_since(text, Timestamp::now()) {
                Some(time) => Some(time),
                None => validator.value_error(
                    "invalid time; expected a duration such as `10m`, or a timestamp such as `2026-11-23T15:30:00Z`",
                    &Value::from(text),
                ),
            }
        })
    }

    fn parse_param<T>(
        &self,
        name: &'static str,
        errors: &mut Vec<ErrorDetail>,
        parse: impl FnOnce(&str, &mut Validator) -> Option<T>,
    ) -> Option<T> {
        let text = self.0.get(name)?;
        let mut validator = Validator::new("query");
        let value = validator.within(name, |validator| parse(text, validator));
        errors.extend(validator.into_errors());
        value
    }
}

fn parse_since(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let span: Span = text.parse().ok()?;
    // A day is 24 hours here; calendar days would depend on a time zone.
    let ago = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    if ago.is_negative() {
        return None;
    }
    // A duration beyond the earliest representable time means the whole log.
    Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::parse_since;

    #[test]
    fn since_is_a_time_or_a_duration() {
        let now: Timestamp = "2026-11-23T15:30:00Z".parse().unwrap();
        for (text, expected) in [
            ("10m", Some("2026-11-23T15:20:00Z")),
            ("1h30m", Some("2026-11-23T14:00:00Z")),
            ("PT10S", Some("2026-11-23T15:29:50Z")),
            ("2026-11-23T15:29:00Z", Some("2026-11-23T15:29:00Z")),
            ("3d", Some("2026-11-20T15:30:00Z")),
            ("-10m", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(
                parse_since(text, now),
                expected.map(|time| time.parse().unwrap()),
                "{text}"
            );
        }
    }
}
