//! Label and field selectors.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::object::{Kind, Object, names};
use crate::status_error::StatusError;

/// The labels and fields of an object that selectors can match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    labels: BTreeMap<String, String>,
    fields: Vec<(&'static str, String)>,
}

impl Selection {
    pub(crate) fn of(object: &Object) -> Self {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let mut fields = vec![
            ("metadata.name", object.name().to_owned()),
            ("metadata.namespace", object.namespace().to_owned()),
        ];
        for path in object.kind.selectable_fields() {
            fields.push((path, field(object.value(), path)));
        }
        Self {
            labels: object.labels().into_iter().map(owned).collect(),
            fields,
        }
    }
}

fn field(value: &Value, path: &str) -> String {
    // Selectable fields that have another name in the object.
    let path = match path {
        "status.successful" => "status.succeeded",
        "source" => "source.component",
        other => other,
    };
    let mut here = value;
    for step in path.split('.') {
        here = &here[step];
    }
    match here {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        // Zero values are absent from the JSON.
        _ if path == "spec.unschedulable" => "false".to_owned(),
        _ if path == "status.succeeded" => "0".to_owned(),
        _ => String::new(),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
    Greater(String, i64),
    Less(String, i64),
}

/// A label selector such as `a=b,c in (d,e),!f`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    pub(crate) fn parse(text: &str) -> Result<Self, StatusError> {
        let refuse = |why: String| StatusError::bad_request(format!("unable to parse requirement: {why}"));
        let mut requirements = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    continue;
                }
                return Err(refuse(format!("found '', expected: identifier in `{text}`")));
            }
            requirements.push(requirement(part).map_err(refuse)?);
        }
        Ok(Self(requirements))
    }

    /// Whether every object matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, selection: &Selection) -> bool {
        self.matches_labels(|key| selection.labels.get(key).map(String::as_str))
    }

    /// Like [`Self::matches`], for labels that are looked up with `get`.
    pub(crate) fn matches_labels<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        let number = |key: &str| get(key).and_then(|text| text.parse::<i64>().ok());
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|value| values.iter().any(|one| one == value)),
            Requirement::NotIn(key, values) => get(key).is_none_or(|value| values.iter().all(|one| one != value)),
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::DoesNotExist(key) => get(key).is_none(),
            Requirement::Greater(key, bound) => number(key).is_some_and(|value| value > *bound),
            Requirement::Less(key, bound) => number(key).is_some_and(|value| value < *bound),
        })
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let set = |text: &str| -> Result<Vec<String>, String> {
        let inner = text.trim().strip_prefix('(').and_then(|text| text.strip_suffix(')'));
        let inner = inner.ok_or_else(|| format!("found '{}', expected: '('", text.trim()))?;
        inner.split(',').map(|value| checked_value(value.trim())).collect()
    };
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement::DoesNotExist(checked_key(key)?));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(
            checked_key(key)?,
            vec![checked_value(value.trim())?],
        ));
    }
    if let Some((key, value)) = part.split_once('=') {
        let value = value.strip_prefix('=').unwrap_or(value).trim();
        return Ok(Requirement::In(checked_key(key)?, vec![checked_value(value)?]));
    }
    for (sign, greater) in [('>', true), ('<', false)] {
        if let Some((key, value)) = part.split_once(sign) {
            let bound = value.trim().parse().map_err(|_| {
                format!(
                    "values[0]: Invalid value: \"{}\": for 'Gt', 'Lt' operators, the value must be an integer",
                    value.trim()
                )
            })?;
            let key = checked_key(key)?;
            return Ok(if greater {
                Requirement::Greater(key, bound)
            } else {
                Requirement::Less(key, bound)
            });
        }
    }
    match part.split_once(char::is_whitespace) {
        None => Ok(Requirement::Exists(checked_key(part)?)),
        Some((key, rest)) => {
            let rest = rest.trim_start();
            if let Some(values) = rest.strip_prefix("notin") {
                return Ok(Requirement::NotIn(checked_key(key)?, set(values)?));
            }
            if let Some(values) = rest.strip_prefix("in") {
                return Ok(Requirement::In(checked_key(key)?, set(values)?));
            }
            Err(format!("found '{rest}', expected: in, notin, =, ==, !=, gt, lt"))
        }
    }
}

fn checked_key(key: &str) -> Result<String, String> {
    let key = key.trim();
    names::validate_qualified_name(key)
        .map(|()| key.to_owned())
        .map_err(|why| format!("key: Invalid value: \"{key}\": {why}"))
}

fn checked_value(value: &str) -> Result<String, String> {
    names::validate_label_value(value)
        .map(|()| value.to_owned())
        .map_err(|why| format!("values[0][key]: Invalid value: \"{value}\": {why}"))
}

/// A field selector such as `status.phase=Running,metadata.name!=x`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FieldSelector(Vec<(&'static str, bool, String)>);

impl FieldSelector {
    /// Parses a selector; fails if the kind doesn't support one of its fields.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, StatusError> {
        let mut terms = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (path, equal, value) = match (part.split_once("!="), part.split_once('=')) {
                (Some((path, value)), _) => (path, false, value),
                (None, Some((path, value))) => (path, true, value.strip_prefix('=').unwrap_or(value)),
                (None, None) => {
                    let why = format!("invalid selector: '{text}'; can't understand '{part}'");
                    return Err(StatusError::bad_request(why));
                }
            };
            let known = ["metadata.name", "metadata.namespace"];
            let mut known = known.iter().chain(kind.selectable_fields());
            let Some(path) = known.find(|known| **known == path) else {
                let why = match kind.selectable_fields() {
                    [] => format!(
                        "\"{path}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    ),
                    _ => format!("field label not supported: {path}"),
                };
                return Err(StatusError::bad_request(why));
            };
            terms.push((*path, equal, value.to_owned()));
        }
        Ok(Self(terms))
    }

    /// Whether every object matches.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The only name that can match, if the selector requires one.
    pub(crate) fn name(&self) -> Option<&str> {
        let exact = self
            .0
            .iter()
            .find(|(path, equal, _)| *path == "metadata.name" && *equal);
        exact.map(|(_, _, value)| value.as_str())
    }

    pub(crate) fn matches(&self, selection: &Selection) -> bool {
        self.0.iter().all(|(path, equal, value)| {
            let found = selection.fields.iter().find(|(field, _)| field == path);
            (found.map_or("", |(_, text)| text) == value) == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{LabelSelector, Requirement};

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let get = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        LabelSelector::parse(selector).unwrap().matches_labels(get)
    }

    #[test]
    fn a_selector_matches_as_kubernetes_says() {
        let labels = [("a", "1"), ("k8s.io/b", "x")];
        for selector in [
            "",
            "a",
            "a=1",
            "a==1",
            "a!=2",
            "a in (1, 2)",
            "!c",
            "c!=x",
            "c notin (1)",
            "a>0",
            "a<2,k8s.io/b",
        ] {
            assert!(matches(selector, &labels), "{selector}");
        }
        for selector in ["c", "a=2", "a!=1", "a in (2)", "!a", "a notin (1,2)", "a>1", "a=1,c"] {
            assert!(!matches(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["a in 1", "=", "a b", "a,,b", "a=b c", "a>x", "a/b/c", "-"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_comma_within_a_set_parts_nothing() {
        let parsed = LabelSelector::parse("a in (b,c),d").unwrap();
        assert_eq!(parsed.0.len(), 2);
        assert_eq!(parsed.0[1], Requirement::Exists("d".to_owned()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = LabelSelector::parse(&text);
        }
    }
}
