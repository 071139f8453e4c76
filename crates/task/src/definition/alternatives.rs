//! Parses `resources` with alternatives: `any_of`, `ordered`, and several accelerators.

use serde::Serialize;
use serde_json::{Map, Value};

use super::keys;
use super::resources::{ParsedResources, Resources};
use crate::validation::{LocItem, Validator, coerce};

/// The maximum number of alternatives.
pub(super) const MAX_ALTERNATIVES: usize = 64;

/// The keys that mean accelerators.
const ACCELERATOR_KEYS: [&str; 2] = ["accelerators", "gpus"];

/// The resources of a task, and others that it can use instead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternatives {
    /// Whether those that come first are preferred.
    pub is_ordered: bool,
    /// All alternatives, at least one.
    pub resources: Vec<Resources>,
}

/// A key of `resources` that lists alternatives.
struct Source {
    key: &'static str,
    is_ordered: bool,
    /// What each of them adds to the other keys, and where it is in the value of the key.
    overlays: Vec<(LocItem, Map<String, Value>)>,
}

/// Parses `resources`. Returns the first alternative, or the resources if there are none, and all alternatives.
pub(super) fn parse_resources(value: &Value, validator: &mut Validator) -> Option<(Resources, Option<Alternatives>)> {
    let Some(fields) = value.as_object() else {
        return Resources::from_value(value, validator).map(|parsed| (parsed.resources, None));
    };
    let mut sources = sources(fields, validator)?;
    let (first, second) = (sources.pop(), sources.pop());
    match (first, second) {
        (None, _) => parse_single(value, validator).map(|resources| (resources, None)),
        (Some(source), None) => {
            let alternatives = parse_alternatives(fields, &source, validator)?;
            let first = alternatives.resources.first()?.clone();
            Some((first, Some(alternatives)))
        }
        (Some(source), Some(other)) => validator.within(source.key, |validator| {
            let reason = format!("alternatives are already in `{}`; remove one of the two", other.key);
            validator.value_error(reason, &fields[source.key])
        }),
    }
}

fn parse_single(value: &Value, validator: &mut Validator) -> Option<Resources> {
    let ParsedResources { resources, elsewhere } = Resources::from_value(value, validator)?;
    match elsewhere {
        None => Some(resources),
        Some(cloud) => validator.within(cloud.key, |validator| {
            validator.value_error(cloud.reason(), &value[cloud.key])
        }),
    }
}

/// All keys that list alternatives, in the order in which they are parsed. `None` if a list is invalid.
fn sources(fields: &Map<String, Value>, validator: &mut Validator) -> Option<Vec<Source>> {
    let mut sources = Vec::new();
    for key in ACCELERATOR_KEYS {
        let models = match fields.get(key) {
            Some(Value::Array(_)) => validator.within(key, |validator| listed_models(&fields[key], validator))?,
            // SkyPilot writes `{L40S:1, H100:1}` for a set, and `{L40S: 1, H100: 1}` means the same.
            Some(Value::Object(models)) if models.len() > 1 => {
                let model = |(name, count): (&String, &Value)| {
                    let single = Map::from_iter([(name.clone(), count.clone())]);
                    (LocItem::from(name.as_str()), Value::Object(single))
                };
                models.iter().map(model).collect()
            }
            _ => continue,
        };
        let overlay = |(place, model): (LocItem, Value)| (place, Map::from_iter([(key.to_owned(), model)]));
        sources.push(Source {
            key,
            is_ordered: fields[key].is_array(),
            overlays: models.into_iter().map(overlay).collect(),
        });
    }
    for (key, is_ordered) in [("any_of", false), ("ordered", true)] {
        let Some(list) = fields.get(key).filter(|list| !list.is_null()) else {
            continue;
        };
        let overlays = validator.within(key, |validator| listed_resources(list, validator))?;
        sources.push(Source {
            key,
            is_ordered,
            overlays,
        });
    }
    Some(sources)
}

fn listed_models(list: &Value, validator: &mut Validator) -> Option<Vec<(LocItem, Value)>> {
    let item = |item: &Value, validator: &mut Validator| match item {
        Value::String(_) => Some(item.clone()),
        _ => validator.value_error("must be text, e.g., `H100:8`", item),
    };
    listed(list, "must name at least one model", item, validator)
}

fn listed_resources(list: &Value, validator: &mut Validator) -> Option<Vec<(LocItem, Map<String, Value>)>> {
    let item = |item: &Value, validator: &mut Validator| match item {
        Value::Object(fields) => Some(fields.clone()),
        _ => validator.push_error("dict_type", "Input should be a valid dictionary", item),
    };
    listed(list, "must have at least one alternative", item, validator)
}

/// The items of a list with their places. `if_empty` is the error if there are none.
fn listed<T>(
    list: &Value,
    if_empty: &str,
    item: impl FnMut(&Value, &mut Validator) -> Option<T>,
    validator: &mut Validator,
) -> Option<Vec<(LocItem, T)>> {
    let items = coerce::list(list, validator, MAX_ALTERNATIVES, item)?;
    if items.is_empty() {
        return validator.value_error(if_empty, list);
    }
    let places = (0..).map(LocItem::Index);
    Some(places.zip(items).collect())
}

/// Parses each alternative with the other keys as its defaults. Drops those on other clouds, unless none is left.
fn parse_alternatives(fields: &Map<String, Value>, source: &Source, validator: &mut Validator) -> Option<Alternatives> {
    let mut defaults = fields.clone();
    defaults.shift_remove(source.key);
    let (mut resources, mut dropped) = (Vec::new(), Vec::new());
    for (place, overlay) in &source.overlays {
        let merged = Value::Object(overlaid(&defaults, overlay));
        let mut attempt = validator.branch();
        let parsed = attempt.within(source.key, |attempt| {
            attempt.within(place.clone(), |attempt| Resources::from_value(&merged, attempt))
        });
        if attempt.error_count() > 0 {
            // Report a mistake in the defaults at its place, and not in each alternative.
            let mut alone = validator.branch();
            Resources::from_value(&Value::Object(defaults), &mut alone);
            validator.absorb(if alone.error_count() > 0 { alone } else { attempt });
            return None;
        }
        validator.absorb(attempt);
        let ParsedResources {
            resources: parsed,
            elsewhere,
        } = parsed?;
        match elsewhere {
            None => resources.push(parsed),
            Some(cloud) => dropped.push(format!("`{}.{place}` is on `{}`", source.key, cloud.name)),
        }
    }
    if resources.is_empty() {
        return validator.within(source.key, |validator| {
            let reason = format!("no alternative is on Kubernetes: {}", dropped.join(", "));
            validator.value_error(reason, &fields[source.key])
        });
    }
    if !dropped.is_empty() {
        let dropped = dropped.join(", ");
        validator.warn(format!("alternatives on other clouds are ignored: {dropped}"));
    }
    let is_ordered = source.is_ordered;
    Some(Alternatives { is_ordered, resources })
}

/// The defaults with the keys of an alternative, which also replace keys that mean the same.
fn overlaid(defaults: &Map<String, Value>, overlay: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = defaults.clone();
    for key in overlay.keys() {
        for alias in keys::aliases(key) {
            merged.shift_remove(*alias);
        }
    }
    merged.extend(overlay.clone());
    merged
}
